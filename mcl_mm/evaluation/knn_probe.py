"""Do images of one class lie near each other?"""

import os

import torch
import torch.nn.functional as F
from mmcv.transforms import CenterCrop
from torch import Tensor, nn
from torchvision.datasets.folder import find_classes, make_dataset

from mcl_mm.datasets import LoadAnyImage
from mcl_mm.datasets.settings import check_number, check_path
from mcl_mm.datasets.unlabelled_images import EXTENSIONS
from mcl_mm.registry import HOOKS

from .probe import Probe, ProbeImages, ShortEdge, normalise


@HOOKS.register_module()
class KNNProbe(Probe):
    """Classify images by their nearest neighbours among the others of a labelled folder.

    The features are the backbone's last stage, averaged over the image and l2-normalised; images are
    resized to ``8 / 7`` of ``side`` and cropped in the middle. Logs ``knn_acc``, the share classified
    right, and ``knn_chance``, the share of the largest class.

    Args:
        data_root (str): A folder with one folder of images per class.
        bank_root (str): A folder of the same classes, to search for neighbours instead. Defaults to
            '', ``data_root`` itself, each image without itself.
        side (int): Images are cropped to ``side x side`` pixels. Defaults to 224.
        k (int): Number of neighbours. Defaults to 20.
        temperature (float): A neighbour votes with weight ``exp(cosine / temperature)``. Defaults
            to 0.07.
        interval (int): Epochs between two measurements. Defaults to 10.
        **kwargs: The rest of :class:`Probe`: ``by_epoch``, ``batch_size``, ``num_workers``.

    Raises:
        FileNotFoundError: There is no such folder, no class in it, or no image of a class.
        ValueError: Fewer than two classes, or other classes in ``bank_root``.
    """

    name = 'knn'

    def __init__(
        self,
        data_root: str,
        bank_root: str = '',
        side: int = 224,
        k: int = 20,
        temperature: float = 0.07,
        interval: int = 10,
        **kwargs,
    ) -> None:
        super().__init__(interval, **kwargs)
        check_number('k of KNNProbe', k, low=1, whole=True)
        check_number('side of KNNProbe', side, low=1, whole=True)
        check_number('temperature of KNNProbe', temperature, low=1e-6, high=1e6)
        self.k, self.temperature = k, temperature
        items, classes = list_images(data_root)
        self.num_queries, self.num_classes = len(items), len(classes)
        self.leave_one_out = not bank_root
        if bank_root:
            bank, bank_classes = list_images(bank_root)
            if bank_classes != classes:
                raise ValueError(
                    f'{bank_root} and {data_root} must have folders for the same classes, but '
                    f'{sorted(set(classes) ^ set(bank_classes))[:5]} are in one of them only'
                )
            items += bank
        transforms = [LoadAnyImage(), ShortEdge(round(side * 8 / 7)), CenterCrop(side)]
        self.data = ProbeImages(items, transforms)

    def embed(self, model: nn.Module, batch: list[dict]) -> list[tuple[Tensor, Tensor]]:
        """One l2-normalised feature an image."""
        images = normalise(model, torch.stack([item['image'] for item in batch]))
        features = F.normalize(model.backbone(images)[-1].mean(dim=(2, 3)), dim=1)
        labels = torch.tensor([item['gt_label'] for item in batch])
        return list(zip(features.split(1), labels.split(1)))

    def score(self, features: Tensor, labels: Tensor, images: Tensor) -> dict[str, float]:
        """Share of the queries that get their own label, and of the most frequent label."""
        query = images < self.num_queries
        bank = query if self.leave_one_out else ~query
        votes = vote(
            features[query], features[bank], labels[bank], self.k, self.temperature,
            self.leave_one_out,
        )  # fmt: skip
        accuracy = (votes == labels[query]).float().mean().item()
        return dict(acc=accuracy, chance=labels[query].bincount().max().item() / len(votes))


def list_images(root: str) -> tuple[list[dict], list[str]]:
    """Path and label of each image, and the classes: the names of the folders, sorted."""
    check_path('data_root of KNNProbe', root)
    try:
        classes, label = find_classes(root)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'KNNProbe needs a folder of images for each class, and {os.path.abspath(root)} '
            + (
                'has no folder. Without classes, leave the probe out' * os.path.isdir(root)
                or 'is not there'
            )
        ) from None
    samples = make_dataset(root, label, EXTENSIONS)
    if len(classes) < 2:
        raise ValueError(f'{root} holds a single class, {classes[0]}: nothing to tell apart')
    return [dict(img_path=path, gt_label=label) for path, label in samples], classes


def vote(
    queries: Tensor,
    bank: Tensor,
    labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
) -> Tensor:
    """Labels by weighted vote of the nearest neighbours.

    (`Unsupervised Feature Learning via Non-Parametric Instance Discrimination
    <https://arxiv.org/abs/1805.01978>`_, section 3.4.)

    Args:
        queries (Tensor): l2-normalised features, ``(M, D)``.
        bank (Tensor): Those of the neighbours, ``(N, D)``.
        labels (Tensor): Labels of the bank, ``(N,)``, int64.
        k (int): Neighbours asked, at most all there are. Defaults to 20.
        temperature (float): A neighbour's vote weighs ``exp(cosine / temperature)``. Defaults to
            0.07.
        leave_one_out (bool): Queries are the bank, and none is its own neighbour. Defaults to False.

    Returns:
        Tensor: ``(M,)``, int64.
    """
    k = min(k, len(bank) - leave_one_out)
    one_hot = F.one_hot(labels).to(queries.dtype)
    answers = []
    for start in range(0, len(queries), 1024):  # all cosines at once might not fit the memory
        cosine = queries[start : start + 1024] @ bank.t()
        if leave_one_out:
            rows = torch.arange(len(cosine), device=cosine.device)
            cosine[rows, start + rows] = -torch.inf
        nearest, index = cosine.topk(k, dim=1)
        weights = (nearest / temperature).exp()
        answers.append((weights[..., None] * one_hot[index]).sum(dim=1).argmax(dim=1))
    return torch.cat(answers)
