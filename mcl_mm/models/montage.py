"""The montage: small copies of images pasted into sheets that look like scenes of many objects."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mcl_mm.registry import TRANSFORMS


class Montage(NamedTuple):
    """One side (*q* or *k*) of a batch, as the network sees it.

    Attributes:
        sheets (tuple[Tensor]): Per level ``k`` its sheets, ``(M_k, C, S, S)``. Level 0 holds the
            ``B`` views as they are, so ``M_0 = B``.
        sources (tuple[Tensor]): Per level the image each tile was made from, int64 in ``[0, B)``,
            ``(M_k * r_k**2,)``: sheet by sheet, row by row within a sheet.
    """

    sheets: tuple[Tensor, ...]
    sources: tuple[Tensor, ...]


@TRANSFORMS.register_module()
class MontageTransform:
    """Turn a batch of views into sheets, on the device that holds the batch.

    Level ``k`` pastes its views into ``M_k`` sheets, each a ``r_k x r_k`` grid of tiles in row-major
    order and as large as a view of level 0, ``S x S``. Views of side ``S`` are shrunk to a tile by
    taking every ``r_k``-th pixel, as published; views that already have the side of a tile,
    ``S / r_k`` (:class:`NativeViews`), are pasted as they are. The tiles of a level show the images
    ``randperm(M_k * r_k**2) mod B``: every image appears equally often, up to one. (`Multi-Level
    Contrastive Learning for Dense Prediction Task <https://arxiv.org/abs/2304.02010>`_, section 3.)

    Args:
        ratios (Sequence[int]): ``r_k``, the tiles along a side of a sheet, level 0 first. The first
            is 1. Defaults to (1, 2, 4, 8).
        appearances (Sequence[int]): How often each image is to appear on level ``k``; gives
            ``M_k = max(1, round(B * appearances_k / r_k**2))`` sheets. Defaults to (1, 1, 1, 2).
        num_sheets (Sequence[int], optional): ``M_k`` itself, instead of ``appearances``; the first
            must be the batch size. Defaults to None.
        pasted (bool): Paste the tiles into sheets. Otherwise every tile is an image of its own,
            ``(M_k * r_k**2, C, S / r_k, S / r_k)``. Defaults to True.
        antialias (bool): Shrink views of side ``S`` by torchvision's antialiased bilinear filter instead
            of by sub-sampling. Defaults to False.

    Raises:
        ValueError: Ratios, appearances or sheet counts that describe no montage.
    """

    def __init__(
        self,
        ratios: Sequence[int] = (1, 2, 4, 8),
        appearances: Sequence[int] = (1, 1, 1, 2),
        num_sheets: Optional[Sequence[int]] = None,
        pasted: bool = True,
        antialias: bool = False,
    ) -> None:
        self.ratios, self.appearances, self.num_sheets = ratios, appearances, num_sheets
        self.pasted, self.antialias = pasted, antialias
        counts = appearances if num_sheets is None else num_sheets
        name = 'appearances' if num_sheets is None else 'num_sheets'
        if len(ratios) == 0 or ratios[0] != 1 or min(ratios) < 1:
            raise ValueError(f'ratios must start with 1 and be at least 1, got {tuple(ratios)}')
        if len(counts) != len(ratios):
            raise ValueError(f'{len(ratios)} ratios need {len(ratios)} {name}, got {len(counts)}')
        if min(counts) <= 0:
            raise ValueError(f'{name} must be positive on every level, got {tuple(counts)}')
        if num_sheets is None and appearances[0] != 1:
            raise ValueError(f'level 0 shows every image once, got {appearances[0]} appearances')

    def __call__(
        self,
        views_q: Sequence[Tensor],
        views_k: Sequence[Tensor],
        sources: Optional[tuple[Sequence[Tensor], Sequence[Tensor]]] = None,
        generator: Optional[torch.Generator] = None,
    ) -> tuple[Montage, Montage]:
        """Assemble both sides.

        Args:
            views_q (Sequence[Tensor]): Side *q*: per level the views of the ``B`` images,
                ``(B, C, S, S)`` or ``(B, C, S / r_k, S / r_k)``, any dtype.
            views_k (Sequence[Tensor]): Side *k*, likewise.
            sources (tuple, optional): ``(sources_q, sources_k)`` as in :class:`Montage`, in place of
                random ones. Defaults to None.
            generator (torch.Generator, optional): Source of the permutations, on any device.
                Defaults to None, PyTorch's own generator of the views' device.

        Returns:
            tuple[Montage, Montage]: Sides *q* and *k*, on the device and in the dtype of the views.

        Raises:
            ValueError: Views that cannot be pasted, or sources that do not fill the sheets.
        """
        self._check_views(views_q, views_k)
        batch_size, device = views_q[0].shape[0], views_q[0].device
        if sources is None:
            sources = self.draw_sources(batch_size, device, generator)
        else:
            sources = tuple(self._check_sources(side, batch_size, device) for side in sources)
        return tuple(
            Montage(tuple(self._sheets(views, side)), tuple(side))
            for views, side in zip((views_q, views_k), sources)
        )

    def _sheets(self, views: Sequence[Tensor], sources: Sequence[Tensor]) -> Iterator[Tensor]:
        """The sheets of each level of one side."""
        yield views[0]
        side = views[0].shape[-1]
        for view, source, ratio in list(zip(views, sources, self.ratios))[1:]:
            tiles = shrink(view, side // ratio, self.antialias)[source]
            yield paste(tiles, ratio) if self.pasted else tiles

    def sheets_per_level(self, batch_size: int) -> tuple[int, ...]:
        """``M_k`` for a batch of ``batch_size`` images.

        Raises:
            ValueError: ``batch_size`` is 0 or not the given number of sheets on level 0.
        """
        if batch_size < 1:
            raise ValueError('a montage needs at least one image, got an empty batch')
        if self.num_sheets is None:
            return tuple(
                max(1, round(batch_size * t / r**2)) for t, r in zip(self.appearances, self.ratios)
            )
        if self.num_sheets[0] != batch_size:
            raise ValueError(
                f'level 0 shows the {batch_size} images of the batch themselves, so num_sheets must '
                f'start with {batch_size}, got {tuple(self.num_sheets)}'
            )
        return tuple(self.num_sheets)

    def draw_sources(
        self,
        batch_size: int,
        device: torch.device,
        generator: Optional[torch.Generator] = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Draw the source of every tile: level by level, side *q* before side *k*.

        Returns:
            tuple[list[Tensor], list[Tensor]]: For *q* and *k*, per level ``(M_k * r_k**2,)``, int64.
        """
        images = torch.arange(batch_size, device=device)
        sides = ([images], [images])
        draw_on = device if generator is None else generator.device
        for count, ratio in list(zip(self.sheets_per_level(batch_size), self.ratios))[1:]:
            for side in sides:
                tiles = torch.randperm(count * ratio**2, generator=generator, device=draw_on)
                side.append(tiles.to(device) % batch_size)
        return sides

    def _check_views(self, views_q: Sequence[Tensor], views_k: Sequence[Tensor]) -> None:
        levels = len(self.ratios)
        if len(views_q) != levels or len(views_k) != levels:
            raise ValueError(
                f'{levels} levels need {levels} views of each image on either side, '
                f'got {len(views_q)} and {len(views_k)}'
            )
        shape = views_q[0].shape
        if len(shape) != 4 or shape[2] != shape[3]:
            raise ValueError(f'views must be square, (B, C, S, S), got {tuple(shape)}')
        for views in (views_q, views_k):
            for view, ratio in zip(views, self.ratios):
                tile, rest = divmod(shape[3], ratio)
                if rest:
                    raise ValueError(
                        f'ratio {ratio} does not divide the side of the views, {shape[3]} pixels'
                    )
                if view.shape not in (shape, (*shape[:2], tile, tile)):
                    raise ValueError(
                        f'views must be (B, C, S, S) and alike, or as large as a tile of their level, '
                        f'{tile} pixels, got {tuple(view.shape)} beside {tuple(shape)}'
                    )

    def _check_sources(
        self, side: Sequence[Tensor], batch_size: int, device: torch.device
    ) -> list[Tensor]:
        side = [torch.as_tensor(level, device=device, dtype=torch.long) for level in side]
        expected = [m * r**2 for m, r in zip(self.sheets_per_level(batch_size), self.ratios)]
        if [level.numel() for level in side] != expected:
            raise ValueError(
                f'sources must name {expected} tiles on the levels, '
                f'got {[level.numel() for level in side]}'
            )
        if not torch.equal(side[0], torch.arange(batch_size, device=device)):
            raise ValueError('the sources of level 0 are the images in order')
        for level in side[1:]:
            if level.min() < 0 or level.max() >= batch_size:
                raise ValueError(f'sources must lie in [0, {batch_size}), got {level.tolist()}')
        return side

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(ratios={self.ratios}, appearances={self.appearances}, '
            f'num_sheets={self.num_sheets}, pasted={self.pasted}, antialias={self.antialias})'
        )


def shrink(views: Tensor, side: int, antialias: bool = False) -> Tensor:
    """Shrink views to tiles.

    Args:
        views (Tensor): ``(B, C, V, V)``, ``V`` a multiple of ``side``.
        side (int): ``s``, of a tile, in pixels.
        antialias (bool): By torchvision's antialiased bilinear filter, rounded where views are bytes,
            instead of nearest sub-sampling. Defaults to False.

    Returns:
        Tensor: ``(B, C, s, s)``.
    """
    step = views.shape[-1] // side
    if antialias and step > 1:
        return F.resize(views, [side, side], antialias=True)
    return views[..., ::step, ::step]


def paste(tiles: Tensor, ratio: int) -> Tensor:
    """Paste tiles into sheets.

    Args:
        tiles (Tensor): ``(M * ratio**2, C, s, s)``: sheet by sheet, row by row within a sheet.
        ratio (int): Tiles along a side of a sheet.

    Returns:
        Tensor: Sheets, ``(M, C, ratio * s, ratio * s)``.
    """
    tiles = tiles.unflatten(0, (-1, ratio, ratio))  # (M, row, column, C, s, s)
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def cut(maps: Tensor, cell: int) -> Tensor:
    """Cut maps into square cells, the inverse of pasting.

    Args:
        maps (Tensor): ``(N, C, g * cell, g * cell)``.
        cell (int): The side of a cell.

    Returns:
        Tensor: ``(N * g * g, C, cell, cell)``, in the memory format of ``maps``: map by map, row by
        row.
    """
    rows = maps.unflatten(3, (-1, cell)).unflatten(2, (-1, cell))  # (N, C, g, cell, g, cell)
    if maps.is_contiguous(memory_format=torch.channels_last):
        return rows.permute(0, 2, 4, 3, 5, 1).flatten(0, 2).permute(0, 3, 1, 2)
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
