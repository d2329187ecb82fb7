"""MCLNeck: what it embeds, and what each embedding has seen."""

import pytest
import torch

from mcl_mm.models import MCLNeck, RegionProjector

CHANNELS = [8, 16, 32, 64]


def make_neck(**kwargs):
    torch.manual_seed(0)
    neck = MCLNeck(CHANNELS, out_channels=8, hid_channels=16, embed_channels=6, **kwargs)
    neck.init_weights()
    return neck


def features(count, side, dtype=torch.float32):
    return [
        torch.randn(count, c, side // s, side // s, dtype=dtype)
        for c, s in zip(CHANNELS, (4, 8, 16, 32))
    ]


@pytest.mark.parametrize('side', [32, 64, 224])
@pytest.mark.parametrize('levels', [[0], [1, 3], [0, 1, 2, 3]])
def test_shapes(side, levels):
    embedded = make_neck()(features(2, side), levels)
    assert [tuple(e.shape) for e in embedded] == [(2 * 4**level, 6) for level in levels]


def test_pyramid_is_mmdets():
    """Whichever levels are asked for, maps equal the ones FPN.forward gives."""
    neck, feats = make_neck().eval(), features(2, 64)
    expected = neck.fpn(feats)  # P2, P3, P4, P5
    for levels in ([0], [2], [1, 3], [0, 1, 2, 3]):
        maps = neck.pyramid(feats, levels)
        assert sorted(maps) == levels
        for level in levels:
            torch.testing.assert_close(maps[level], expected[3 - level])


def test_cells_are_read_row_by_row():
    """Slow reference: the cell of a tile, cut out by hand, through the projector."""
    neck, feats = make_neck().eval(), features(3, 64)
    level, cell = 2, 2
    embedded = neck(feats, [level])[0]
    (fpn_map,) = [neck.fpn(feats)[3 - level]]
    for sheet, row, column in [(0, 0, 0), (0, 1, 2), (2, 3, 3)]:
        tile = fpn_map[
            sheet : sheet + 1, :, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell
        ]
        expected = neck.projector(tile)[0]
        index = sheet * 16 + row * 4 + column
        torch.testing.assert_close(embedded[index], expected)


def test_projector_sees_nothing_beyond_its_cell():
    """A change of the map outside a cell leaves the cell's embedding as it was."""
    neck, feats = make_neck().eval(), features(1, 64)
    maps = neck.pyramid(feats, [1])
    before = neck(feats, [1])[0]

    def changed_pyramid(feats, levels):
        changed = maps[1].clone()
        changed[:, :, :2, 2:] += 1.0  # the second of 2 x 2 cells
        return {1: changed}

    neck.pyramid = changed_pyramid
    after = neck(feats, [1])[0]
    same = (before == after).all(1).tolist()
    assert same == [True, False, True, True]


def test_gradient_of_a_cell_stays_in_its_neighbourhood():
    """Through the FPN's 3x3 output conv a cell sees one pixel around it at its own level."""
    neck = make_neck().eval()
    feats = features(1, 128)
    feats[0].requires_grad_()
    neck(feats, [3])[0][9 * 1 + 0].sum().backward()  # row 1, column 1 of 8 x 8 cells of 4 pixels
    seen = feats[0].grad[0].abs().sum(0).nonzero()
    assert seen.min().item() == 3
    assert seen.max().item() == 8


def test_projector_convs_match_a_box_head():
    """Conv, norm and ReLU under the names of MMDetection's shared convs."""
    from mmdet.models import Shared4Conv1FCBBoxHead

    norm_cfg = dict(type='BN')
    ours = RegionProjector(channels=8, hid_channels=16, out_channels=6, norm_cfg=norm_cfg)
    theirs = Shared4Conv1FCBBoxHead(
        in_channels=8,
        conv_out_channels=8,
        fc_out_channels=16,
        roi_feat_size=2,
        num_classes=2,
        norm_cfg=norm_cfg,
    )
    theirs.shared_convs.load_state_dict(ours.convs.state_dict())
    cells = torch.randn(5, 8, 2, 2)
    expected = cells
    for conv in theirs.eval().shared_convs:
        expected = conv(expected)
    torch.testing.assert_close(ours.eval().convs(cells), expected)


def test_initialisation_follows_the_published_recipe():
    torch.manual_seed(0)
    neck = MCLNeck([256, 512, 1024, 2048])
    neck.init_weights()
    bound = (6 / (2048 + 256)) ** 0.5  # Xavier uniform
    lateral = neck.fpn.lateral_convs[3].conv.weight
    assert lateral.abs().max() <= bound
    assert lateral.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    conv = neck.projector.convs[1].conv.weight  # Kaiming normal, fan-out 256 * 9
    assert conv.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    fc = neck.projector.mlp.fc1  # Kaiming normal, fan-in 2048
    assert fc.weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    assert not fc.bias.any()
    assert neck.projector.mlp.bn1.affine is False


def test_side_that_is_no_multiple_of_32():
    feats = [torch.randn(1, c, s, s) for c, s in zip(CHANNELS, (12, 6, 3, 2))]
    with pytest.raises(ValueError, match='multiple of 32 pixels'):
        make_neck()(feats)
