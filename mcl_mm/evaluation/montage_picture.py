"""What the network sees: one sheet of each level, for both sides, before normalisation."""

import colorsys
from functools import partial
from typing import Optional

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from torch import Tensor
from torch.utils.data import Dataset

from mcl_mm.models.montage import Montage
from mcl_mm.reading import building
from mcl_mm.registry import DATASETS, MODELS

SHEET = 448  # side of a sheet in the picture, pixels
MARGIN = 36


def colour(source: int) -> tuple[float, float, float]:
    """A BGR colour for each source, neighbours well apart."""
    return tuple(255 * c for c in colorsys.hsv_to_rgb(source * 0.618 % 1, 0.9, 1.0))


def as_picture(sheet: Tensor) -> Tensor:
    """A sheet of any channels, ``(C, S, S)``, as BGR: the first as gray, of four and more three as RGB."""
    if len(sheet) == 3:
        return sheet
    return sheet[:3].flip(0) if len(sheet) > 3 else sheet[:1].expand(3, -1, -1)


def draw_sheet(sheet: Tensor, sources: list[int], ratio: int) -> np.ndarray:
    """One sheet, ``(3, S, S)`` uint8 BGR, enlarged and framed: ``(SHEET, SHEET, 3)`` uint8 BGR."""
    picture = as_picture(sheet).permute(1, 2, 0).contiguous().numpy()
    picture = cv2.resize(picture, (SHEET, SHEET), interpolation=cv2.INTER_NEAREST)
    tile = SHEET // ratio
    for index, source in enumerate(sources):
        y, x = index // ratio * tile, index % ratio * tile
        cv2.rectangle(picture, (x + 1, y + 1), (x + tile - 2, y + tile - 2), colour(source), 2)
        cv2.putText(
            picture, str(source), (x + 5, y + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3
        )
        cv2.putText(
            picture, str(source), (x + 5, y + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1
        )
    return picture


def draw_side(montage: Montage, name: str) -> np.ndarray:
    """The first sheet of each level in a row, with captions."""
    columns = []
    for level, (sheets, sources) in enumerate(zip(montage.sheets, montage.sources)):
        ratio = round((len(sources) / len(sheets)) ** 0.5)
        first = sources[: ratio**2].tolist()
        picture = draw_sheet(sheets[0], first, ratio)
        picture = cv2.copyMakeBorder(
            picture, MARGIN, 6, 6, 6, cv2.BORDER_CONSTANT, value=(255, 255, 255)
        )
        tile = sheets.shape[-1] // ratio
        caption = (
            f'side {name}, level {level}: sheet 1 of {len(sheets)}, {tile} px tiles, '
            f'read from P{5 - level}'
        )
        width = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)[0][0]
        size = min(0.45, SHEET / width)
        cv2.putText(
            picture, caption, (6, 24), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA
        )
        columns.append(picture)
    return np.hstack(columns)


def build_montage(
    cfg: Config, batch_size: Optional[int], seed: int, dataset: Optional[Dataset] = None
) -> tuple[Montage, Montage]:
    """Both sides of a montage of images drawn from a run's data, uint8, BGR.

    Images and their places depend on ``seed``, their number and the sheets alone.

    Args:
        cfg (Config): Config of a pre-training run.
        batch_size (int, optional): Images, at most all there are. None: the config's.
        seed (int): Of images, views and sources.
        dataset (Dataset, optional): The run's data, if it is there already. Defaults to None.

    Raises:
        OSError: The images cannot be read.
        ValueError: There are none, or the montage does not fit them.
    """
    set_random_seed(seed)
    init_default_scope(cfg.default_scope)
    if dataset is None:
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    settings = cfg.model.data_preprocessor.items()
    preprocessor = MODELS.build(
        {key: value for key, value in settings if key not in ('mean', 'std', 'bgr_to_rgb')}
    )
    count = min(batch_size or cfg.train_dataloader.batch_size, len(dataset))
    chosen = np.random.permutation(len(dataset))[:count]
    sources = preprocessor.montage.draw_sources(count, torch.device('cpu'))
    preprocessor.montage = partial(preprocessor.montage, sources=sources)
    # Behind the sides there may be images for a teacher.
    sides = preprocessor(default_collate([dataset[i] for i in chosen]))['inputs'][:2]
    return tuple(
        side._replace(sheets=tuple(sheets.round().byte() for sheets in side.sheets))
        for side in sides
    )


def draw_montages(
    configs: dict[str, Config], batch_size: Optional[int] = None, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Both sides of a montage by each recipe, of the same images.

    Args:
        configs (dict[str, Config]): Configs of pre-training runs by name.
        batch_size (int, optional): Images of a montage. Defaults to None: the config's.
        seed (int): Of images, views and sources. Defaults to 0.

    Returns:
        tuple[np.ndarray, int]: The picture, uint8 BGR, and how many images it shows.

    Raises:
        OSError, ValueError: See :func:`build_montage`.
    """
    rows = []
    for name, cfg in configs.items():
        with building(cfg.filename):
            q, k = build_montage(cfg, batch_size, seed)
        recipe = f' of {name}' if len(configs) > 1 else ''
        rows += [draw_side(q, f'q{recipe}'), draw_side(k, f'k{recipe}')]
    return np.vstack(rows), len(q.sources[0])
