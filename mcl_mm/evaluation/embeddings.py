"""Embeddings of images by a pre-trained backbone, and files of them."""

import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import CenterCrop
from mmengine.config import Config
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mcl_mm.datasets import LoadAnyImage, UnlabelledImages
from mcl_mm.datasets.decoding import shown
from mcl_mm.engine.start_summary import view_sides
from mcl_mm.engine.value_range_hook import use_range
from mcl_mm.files import atomic_path, check_output, write_text
from mcl_mm.transfer import check_whole, read_checkpoint
from mcl_mm.transfer.detector.settings import build, scope_of
from mcl_mm.transfer.export import describe, input_text

from .near_duplicates import Pairs
from .probe import ProbeImages, ShortEdge, normalise

ENDINGS = ('.npz', '.parquet')


class Embedder(nn.Module):
    """A backbone with the preprocessing that it was trained with.

    Args:
        backbone (nn.Module): Its last output is a map ``(N, D, H, W)``.
        data_preprocessor (nn.Module): Of the model that it is from.
        channels (int, optional): Of the images, see :class:`~mcl_mm.datasets.UnlabelledImages`. Defaults
            to None, RGB.
    """

    def __init__(
        self, backbone: nn.Module, data_preprocessor: nn.Module, channels: Optional[int] = None
    ) -> None:
        super().__init__()
        self.backbone, self.data_preprocessor = backbone, data_preprocessor
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """The last map, averaged over the image and l2-normalised, as of :class:`KNNProbe`.

        Args:
            images (Tensor): ``(N, 3, S, S)``, uint8, BGR; or with the channels of the set.

        Returns:
            Tensor: ``(N, D)``, float32.

        Raises:
            ValueError: The backbone gives no maps.
        """
        maps = self.backbone(normalise(self, images))
        if not isinstance(maps, (tuple, list)) or maps[-1].dim() != 4:
            raise ValueError(
                f'{type(self.backbone).__name__} gives no maps (N, D, H, W), whose last one is averaged '
                'here: set its out_indices, or take another backbone'
            )
        return F.normalize(maps[-1].float().mean(dim=(2, 3)), dim=1)


class Embeddings(NamedTuple):
    """What :func:`embed` gives.

    Attributes:
        names (list[str]): Of the images that can be read, as a list of the folder has them.
        vectors (Tensor): Theirs, ``(N, D)``, float32, l2-normalised, on the device.
        bad (list[str]): Names of those that cannot be read.
    """

    names: list[str]
    vectors: Tensor
    bad: list[str]


def load_embedder(cfg: Config, path: str) -> tuple[Embedder, list[list[float]]]:
    """Build the backbone of a config and load it, from a checkpoint of a run or from an export.

    Args:
        cfg (Config): Of the run that has trained the weights, or of a detector they are for.
        path (str): The file.

    Returns:
        tuple: The embedder, in evaluation mode, and the value ranges that the file records (as
        :func:`~mcl_mm.engine.value_range_hook.ranges_of` gives them).

    Raises:
        OSError: The file cannot be read.
        ValueError: It lacks weights of the backbone, or they were trained on images that were prepared
            in another way; or the config has no such backbone.
    """
    settings = dict(cfg.get('model') or {})
    if 'backbone' not in settings:
        raise ValueError(f'{cfg.filename} has no model.backbone')
    if 'data_preprocessor' not in settings and cfg.get('data_preprocessor'):  # as Runner does
        settings['data_preprocessor'] = cfg.data_preprocessor
    checkpoint = read_checkpoint(path)
    model = build(settings, scope_of(cfg))
    prefix = 'backbone.'
    weights = {
        name.removeprefix(prefix): value
        for name, value in checkpoint['state_dict'].items()
        if name.startswith(prefix)
    }
    if not weights:
        raise ValueError(f'{path} has no weights of a backbone: no {prefix}* in it')
    check_whole(model.backbone, weights, path)
    model.backbone.load_state_dict(weights, strict=False)
    recorded = describe(checkpoint['meta'], path)['input']
    check_input(recorded, model.data_preprocessor, path, cfg.filename)
    recorded = recorded if isinstance(recorded, dict) else {}
    embedder = Embedder(model.backbone, model.data_preprocessor, recorded.get('channels'))
    return embedder.eval(), recorded.get('value_ranges') or []


def check_input(recorded: Optional[dict], preprocessor: nn.Module, path: str, config: str) -> None:
    """Refuse weights that were trained on images prepared in another way.

    Args:
        recorded (dict, optional): What the file says, see :func:`mcl_mm.transfer.export.describe`.
        preprocessor (nn.Module): What will prepare the images.
        path (str): The file, for the message.
        config (str): The config, likewise.

    Raises:
        ValueError: They were.
    """
    if not isinstance(recorded, dict):
        return
    swapped = any(getattr(preprocessor, n, False) for n in ('_channel_conversion', 'to_rgb'))
    own = dict(channel_order='RGB' if swapped else 'BGR', channels=recorded.get('channels'))
    for key in ('mean', 'std'):
        value = getattr(preprocessor, key, None)
        own[key] = None if value is None else value.flatten().tolist()
    same = own['channel_order'] == recorded['channel_order'] and all(
        np.allclose(*(np.array(v or default) for v in (own[key], recorded[key])), rtol=1e-4)
        for key, default in (('mean', 0.0), ('std', 1.0))
    )
    if not same:
        raise ValueError(
            f'{path} was trained on images as {input_text(recorded)}; {config} prepares them as '
            f'{input_text(own)}: give the config that it was trained with'
        )


def side_of(cfg: Config) -> int:
    """The side of the images that a run trains on, pixels: that of its full views, else 224."""
    return max(view_sides(cfg), default=224)


@torch.no_grad()
def embed(
    embedder: Embedder,
    dataset: UnlabelledImages,
    side: int,
    batch_size: int = 64,
    workers: int = 2,
    ranges: Sequence[Sequence[float]] = (),
) -> Embeddings:
    """Embed the images of a folder. Those that cannot be read are named in the log and left out.

    Args:
        embedder (Embedder): On the device that is to compute.
        dataset (UnlabelledImages): The images.
        side (int): They are resized to ``8 / 7`` of it and cropped in the middle, pixels.
        batch_size (int): Images computed at once. Defaults to 64.
        workers (int): Processes that read images. Defaults to 2.
        ranges (Sequence[Sequence[float]]): What :func:`load_embedder` found. Defaults to none.

    Raises:
        ValueError: No image can be read.
    """
    use_range(dataset, list(ranges))
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    names = [os.path.relpath(info['img_path'], dataset.data_root) for info in infos]
    images = ProbeImages(infos, [LoadAnyImage(), ShortEdge(round(side * 8 / 7)), CenterCrop(side)])
    images.value_range, images.channels = dataset.value_range, dataset.channels
    loader = DataLoader(images, batch_size, num_workers=workers, collate_fn=list)
    device = next(embedder.parameters()).device
    found, read = [], []
    for batch in track(loader, 'embedding', console=Console(file=sys.stderr)):
        read += [item is not None for item in batch]
        batch = [item['image'] for item in batch if item is not None]
        if batch:
            found.append(embedder(torch.stack(batch).to(device)))
    if not found:
        raise ValueError(f'none of the {len(names)} images of {dataset.data_root} can be read')
    good, bad = ([n for n, r in zip(names, read) if r is wanted] for wanted in (True, False))
    return Embeddings(good, torch.cat(found), bad)


def check_file(path: Path) -> None:
    """Refuse a file that :func:`write_embeddings` could not write, before there is anything to write.

    Raises:
        OSError: There is no writing to its folder, or PyArrow is not installed.
        ValueError: Its name ends otherwise.
    """
    if path.suffix not in ENDINGS:
        raise ValueError(
            f'the name of a file of embeddings must end in .npz or .parquet, not {path}'
        )
    if path.suffix == '.parquet':
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise OSError(
                'Parquet needs PyArrow: pip install pyarrow, or let the name end in .npz'
            ) from None
    check_output(path)


def write_embeddings(path: Path, names: Sequence[str], vectors: np.ndarray) -> None:
    r"""Write names and embeddings, as a whole or not at all.

    An ``.npz`` has the arrays ``files`` and ``embeddings``, a ``.parquet`` the columns ``file`` and
    ``embedding``. A name that is no UTF-8 is written to Parquet with its odd bytes as ``\xff``.

    Args:
        path (Path): The file, see :func:`check_file`.
        names (Sequence[str]): Of the images.
        vectors (np.ndarray): ``(N, D)``, float32.
    """
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        if path.suffix == '.npz':
            np.savez(file, files=np.array(names, dtype=str), embeddings=vectors)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        pq.write_table(pa.table(dict(file=list(map(shown, names)), embedding=column)), file)


def write_pairs(path: Path, names: Sequence[str], pairs: Pairs) -> None:
    """Write pairs of images as a table, ``similarity,file,other``, as a whole or not at all.

    Args:
        path (Path): The file.
        names (Sequence[str]): Of all images.
        pairs (Pairs): Of their places.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    writer.writerow(['similarity', 'file', 'other'])
    for (one, other), cosine in zip(pairs.places, pairs.similarity):
        writer.writerow([f'{cosine:.5f}', names[one], names[other]])
    write_text(path, table.getvalue())
