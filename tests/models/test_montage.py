"""MontageTransform against a loop that pastes one tile after the other."""

import numpy as np
import pytest
import torch
from PIL import Image

from mcl_mm.models import MontageTransform
from mcl_mm.models.montage import cut, paste, shrink


def slow_montage(views, source, ratio):
    """Sheets of one level, tile by tile and pixel by pixel."""
    side = views.shape[-1]
    tile = side // ratio
    sheets = torch.empty(len(source) // ratio**2, *views.shape[1:], dtype=views.dtype)
    for index, image in enumerate(source.tolist()):
        sheet, place = divmod(index, ratio**2)
        row, column = divmod(place, ratio)
        for y in range(tile):
            for x in range(tile):
                sheets[sheet, :, row * tile + y, column * tile + x] = views[
                    image, :, y * ratio, x * ratio
                ]
    return sheets


@pytest.mark.parametrize('batch_size', [1, 3, 8, 33])
def test_equals_slow_reference(views, batch_size):
    v = views(batch_size, side=32)
    generator = torch.Generator().manual_seed(1)
    sides = MontageTransform()(v[:4], v[4:], generator=generator)
    for side, side_views in zip(sides, (v[:4], v[4:])):
        assert torch.equal(side.sheets[0], side_views[0])
        for level, ratio in enumerate((1, 2, 4, 8)):
            expected = slow_montage(side_views[level], side.sources[level], ratio)
            assert torch.equal(side.sheets[level], expected)


def test_every_tile_is_the_view_of_its_source_downscaled(views):
    v = views(16)
    q, _ = MontageTransform()(v[:4], v[4:])
    for level, ratio in enumerate((1, 2, 4, 8)):
        tiles = cut(q.sheets[level], 64 // ratio)
        assert torch.equal(tiles, v[level][q.sources[level], :, ::ratio, ::ratio])


def test_sources_are_drawn_level_by_level_q_before_k():
    generator = torch.Generator().manual_seed(5)
    drawn = MontageTransform().draw_sources(128, torch.device('cpu'), generator)
    generator = torch.Generator().manual_seed(5)
    for level, (count, ratio) in enumerate(((32, 2), (8, 4), (4, 8)), start=1):
        for side in drawn:
            tiles = torch.randperm(count * ratio**2, generator=generator)
            assert torch.equal(side[level], tiles % 128)


def test_published_sheet_counts_and_appearances():
    transform = MontageTransform()
    assert transform.sheets_per_level(128) == (128, 32, 8, 4)
    assert sum(transform.sheets_per_level(128)) == 172
    q, k = transform.draw_sources(128, torch.device('cpu'))
    for side in (q, k):
        for level, appearances in enumerate((1, 1, 1, 2)):
            counts = torch.bincount(side[level], minlength=128)
            assert torch.equal(counts, torch.full((128,), appearances))


def test_sides_draw_independently():
    q, k = MontageTransform().draw_sources(64, torch.device('cpu'))
    for level in (1, 2, 3):
        assert not torch.equal(q[level], k[level])


def test_reproducible_from_a_generator_and_not_otherwise(views):
    v = views(16)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return MontageTransform()(v[:4], v[4:], generator=generator)[0]

    assert torch.equal(draw(3).sheets[2], draw(3).sheets[2])
    assert not torch.equal(draw(3).sheets[2], draw(4).sheets[2])


def test_given_sources_are_used(views):
    v = views(4)
    sources = [torch.arange(4), torch.tensor([3, 3, 0, 1])], [torch.arange(4), torch.zeros(4)]
    q, k = MontageTransform((1, 2), (1, 1))(v[:2], v[4:6], sources=sources)
    assert torch.equal(q.sheets[1], paste(v[1][[3, 3, 0, 1], :, ::2, ::2], 2))
    assert k.sources[1].tolist() == [0, 0, 0, 0]


def test_num_sheets_in_place_of_appearances(views):
    v = views(4)
    q, _ = MontageTransform(num_sheets=(4, 3, 2, 1))(v[:4], v[4:])
    assert [len(sheets) for sheets in q.sheets] == [4, 3, 2, 1]


def test_cut_inverts_paste():
    views = torch.rand(8, 3, 32, 32)
    source = torch.randperm(8)
    assert torch.equal(cut(paste(views[source], 2), 32), views[source])


def test_antialiased_tiles_are_smooth_and_the_others_are_samples():
    """Stripes of one pixel shrink to grey; every second pixel of them is all black."""
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., 1::2] = 200
    assert shrink(stripes, 16).eq(0).all()
    smooth = shrink(stripes, 16, antialias=True)
    assert smooth.dtype == torch.uint8
    assert (smooth[..., 1:-1].int() - 100).abs().max() <= 1
    constant = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    assert shrink(constant, 4, antialias=True).eq(77).all()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    views = torch.from_numpy(image).permute(2, 0, 1)[None]
    pillow = np.asarray(Image.fromarray(image).resize((8, 8), Image.BILINEAR)).astype(int)
    ours = shrink(views, 8, antialias=True)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - pillow).max() <= 1


@pytest.mark.parametrize('antialias', [False, True])
def test_tiles_are_the_same_pasted_or_not(views, antialias):
    v = views(8)
    sources = MontageTransform().draw_sources(8, torch.device('cpu'))
    sheets, tiles = (
        MontageTransform(pasted=pasted, antialias=antialias)(v[:4], v[4:], sources)[0].sheets
        for pasted in (True, False)
    )
    for level, (sheet, tile) in enumerate(zip(sheets, tiles)):
        assert torch.equal(cut(sheet, 64 // 2**level), tile)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(ratios=(2, 4), appearances=(1, 1)), 'ratios must start with 1'),
        (dict(ratios=(1, 0), appearances=(1, 1)), 'at least 1'),
        (dict(ratios=()), 'ratios must start with 1'),
        (dict(ratios=(1, 2)), '2 ratios need 2 appearances, got 4'),
        (dict(appearances=(1, 1, 0, 2)), 'appearances must be positive'),
        (dict(appearances=(2, 1, 1, 2)), 'level 0 shows every image once'),
        (dict(num_sheets=(4, 1, 1, 0)), 'num_sheets must be positive'),
    ],
)
def test_impossible_montages(arguments, message):
    with pytest.raises(ValueError, match=message):
        MontageTransform(**arguments)


@pytest.mark.parametrize(
    ('transform', 'shapes', 'message'),
    [
        (MontageTransform(), [(2, 3, 36, 36)] * 4, 'ratio 8 does not divide .* 36 pixels'),
        (MontageTransform(), [(2, 3, 64, 32)] * 4, 'must be square'),
        (MontageTransform(), [(2, 3, 64, 64)] * 3, '4 levels need 4 views'),
        (MontageTransform(), [(2, 3, 64, 64)] * 3 + [(1, 3, 64, 64)], 'and alike'),
        (MontageTransform(), [(0, 3, 64, 64)] * 4, 'empty batch'),
        (MontageTransform(num_sheets=(4, 1, 1, 1)), [(2, 3, 64, 64)] * 4, 'start with 2'),
    ],
)
def test_impossible_views(transform, shapes, message):
    views = [torch.zeros(shape) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        transform(views, views)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ([0, 1, 2], 'sources must name .* tiles'),
        ([0, 1, 2, 4], r'must lie in \[0, 4\)'),
    ],
)
def test_impossible_sources(views, source, message):
    v = views(4)
    side = [torch.arange(4), torch.tensor(source)]
    with pytest.raises(ValueError, match=message):
        MontageTransform((1, 2), (1, 1))(v[:2], v[:2], sources=(side, side))
