"""Does the feature pyramid know what is in a box?"""

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import Resize
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.runner import Runner
from pycocotools.coco import COCO
from torch import Tensor, nn

from mcl_mm.datasets import LoadAnyImage
from mcl_mm.datasets.settings import check_number
from mcl_mm.registry import HOOKS

from .probe import Probe, ProbeImages, normalise


@HOOKS.register_module()
class DenseProbe(Probe):
    """Classify labelled boxes of a COCO-format set by a linear map of frozen pyramid features.

    A box is read as a detector reads it: RoIAlign from the pyramid level that fits its size, then
    averaged. The map is fitted on the boxes of every other image and judged on the rest. Logs
    ``dense_acc``, the accuracy per class, averaged over the classes that occur in both halves, and
    ``dense_chance``, one over their number. Where all boxes are of one class, the other is background:
    see :func:`add_background`.

    Args:
        data_root (str): Folder of the set.
        ann_file (str): Its annotations, relative to ``data_root``.
        img_prefix (str): Folder of the images, relative to ``data_root``. Defaults to ''.
        scale (Sequence[int]): Images are resized to fit within it, long and short side in pixels.
            Defaults to (1333, 800).
        ridge (float): Strength of the regularisation, see :func:`fit_linear`. Defaults to 0.1.
        interval (int): Epochs between two measurements. Defaults to 10.
        **kwargs: The rest of :class:`Probe`: ``by_epoch``, ``batch_size``, ``num_workers``.

    Raises:
        FileNotFoundError: There are no annotations or no images.
        ValueError: Fewer than two classes, background among them, have boxes in both halves.
    """

    name = 'dense'

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        img_prefix: str = '',
        scale: Sequence[int] = (1333, 800),
        ridge: float = 0.1,
        interval: int = 10,
        **kwargs,
    ) -> None:
        super().__init__(interval, **kwargs)
        check_number('ridge of DenseProbe', ridge, low=1e-6, high=1e6)
        self.ridge = ridge
        items = list_boxes(os.path.join(data_root, ann_file), os.path.join(data_root, img_prefix))
        if len(np.unique(np.concatenate([item['gt_labels'] for item in items] or [[]]))) == 1:
            items = list(map(add_background, items))
        halves = [
            np.concatenate([item['gt_labels'] for item in items[i::2]] or [[]]) for i in (0, 1)
        ]
        if len(np.intersect1d(*halves)) < 2:
            raise ValueError(
                f'{ann_file} must have boxes of at least two classes, or of one with background beside '
                f'them, in both halves of its {len(items)} images with boxes, every other one'
            )
        self.data = ProbeImages(items, [LoadAnyImage(), Resize(tuple(scale), keep_ratio=True)])

    def before_run(self, runner: Runner) -> None:
        """Refuse a model without a pyramid."""
        model = getattr(runner.model, 'module', runner.model)
        if not hasattr(getattr(model, 'neck', None), 'fpn'):
            raise ValueError(
                f'DenseProbe reads a feature pyramid, which {type(model).__name__} does not have: '
                'use KNNProbe'
            )
        self.extract = SingleRoIExtractor(
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=model.neck.fpn.out_channels,
            featmap_strides=[2 ** (i + 2) for i in range(model.neck.num_levels)],
        )

    def embed(self, model: nn.Module, batch: list[dict]) -> list[tuple[Tensor, Tensor]]:
        """One feature a box."""
        found = []
        for item in batch:  # sizes differ
            image = normalise(model, item['image'][None])
            height, width = image.shape[2:]
            maps = model.extract_feat(F.pad(image, (0, -width % 32, 0, -height % 32)))
            boxes = torch.from_numpy(item['gt_bboxes']).to(image)
            rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
            features = self.extract(maps, rois).mean(dim=(2, 3))
            found.append((features, torch.from_numpy(item['gt_labels'])))
        return found

    def score(self, features: Tensor, labels: Tensor, images: Tensor) -> dict[str, float]:
        """Mean accuracy per class on the second half of a map fitted on the first."""
        first = images % 2 == 0
        classes = labels[first].unique()
        classes = classes[torch.isin(classes, labels[~first])]
        used = torch.isin(labels, classes)
        first, second = first & used, ~first & used
        predicted = fit_linear(features[first], labels[first], self.ridge)(features[second])
        right = (predicted == labels[second]).float()
        per_class = [right[labels[second] == label].mean().item() for label in classes]
        return dict(acc=float(np.mean(per_class)), chance=1 / len(classes))


def list_boxes(ann_file: str, folder: str) -> list[dict]:
    """Images of a COCO file that have boxes: ``img_path``, ``gt_bboxes`` (xyxy), ``gt_labels``, ``size``."""
    if not os.path.isfile(ann_file):
        raise FileNotFoundError(
            f'no annotations for the dense probe at {os.path.abspath(ann_file)}'
        )
    coco = COCO(ann_file)
    label = {category: index for index, category in enumerate(coco.getCatIds())}
    items = []
    for image in coco.loadImgs(coco.getImgIds()):
        boxes = [
            (*box['bbox'], label[box['category_id']])
            for box in coco.imgToAnns[image['id']]
            if not box.get('iscrowd') and min(box['bbox'][2:]) >= 1
        ]
        if boxes:
            boxes = np.array(boxes, dtype=np.float32)
            boxes[:, 2:4] += boxes[:, :2]
            items.append(
                dict(
                    img_path=os.path.join(folder, image['file_name']),
                    gt_bboxes=boxes[:, :4],
                    gt_labels=boxes[:, 4].astype(np.int64),
                    size=(image['width'], image['height']),
                )
            )
    if items and not os.path.exists(items[0]['img_path']):
        raise FileNotFoundError(
            f'no image for the dense probe at {os.path.abspath(items[0]["img_path"])}: set img_prefix'
        )
    return items


def add_background(item: dict) -> dict:
    """An image with, for each object, a box of the same size where there is none, as another class.

    Of 50 places drawn at random, always the same ones, the box takes the first that objects cover by a
    tenth at most. If there is none, the object has no counterpart.

    Args:
        item (dict): See :func:`list_boxes`. Not changed.
    """
    rng = np.random.default_rng(0)
    boxes, (width, height) = item['gt_bboxes'], item['size']
    found = []
    for x1, y1, x2, y2 in boxes:
        w, h = x2 - x1, y2 - y1
        corner = rng.uniform(0, 1, (50, 2)) * (max(width - w, 0), max(height - h, 0))
        places = np.concatenate([corner, corner + (w, h)], axis=1)
        shared = np.minimum(places[:, None, 2:], boxes[:, 2:]) - np.maximum(
            places[:, None, :2], boxes[:, :2]
        )
        covered = shared.clip(min=0).prod(axis=2).sum(axis=1) / (w * h)
        found += places[covered <= 0.1][:1].tolist()
    background = np.array(found, np.float32).reshape(-1, 4)
    labels = np.full(len(found), item['gt_labels'].max() + 1)
    return dict(
        item,
        gt_bboxes=np.concatenate([boxes, background]),
        gt_labels=np.concatenate([item['gt_labels'], labels]),
    )


def fit_linear(features: Tensor, labels: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    """Linear classifier by ridge regression onto one-hot labels, every class of equal weight.

    Closed form on standardised features, in float64: nothing to tune and nothing random.

    Args:
        features (Tensor): ``(N, D)``.
        labels (Tensor): ``(N,)``, int64.
        ridge (float): Added to the diagonal of the features' weighted correlation matrix.

    Returns:
        Callable: From features ``(M, D)`` to labels ``(M,)``.
    """
    classes, index = labels.unique(return_inverse=True)
    weight = (1 / index.bincount().double() / len(classes))[index][:, None]  # sums to 1
    x = features.double()
    mean = (weight * x).sum(dim=0)
    std = (weight * (x - mean) ** 2).sum(dim=0).sqrt().clamp(min=1e-12)
    x = (x - mean) / std
    target = F.one_hot(index).double() - 1 / len(classes)
    gram = x.t() @ (weight * x) + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    solution = torch.linalg.solve(gram, x.t() @ (weight * target))
    return lambda other: classes[((other.double() - mean) / std @ solution).argmax(dim=1)]
