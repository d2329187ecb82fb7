"""``adapt --pretrained-lr`` and ``--lr-decay``: the rate of every parameter in the built optimiser."""

import re

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from test_adapt import DETR, NARROW, SWIN

from conftest import ROOT
from mcl_mm.transfer import to_mmdet
from mcl_mm.transfer.detector.adapt import check_fit, finetune_changes
from mcl_mm.transfer.detector.child_config import ChildConfig
from mcl_mm.transfer.detector.pretrain import pretrain_changes
from mcl_mm.transfer.detector.rates import Rate, keys_for, layers_above, rate_by, rate_changes
from mcl_mm.transfer.detector.settings import build, load_detector

pytestmark = pytest.mark.usefixtures('quick_weights')
# With the smallest heads.
RECIPE = str(ROOT / 'configs/quickstart/pretrain.py')
CONVNEXT = (
    "backbone=dict(_delete_=True, type='mmpretrain.ConvNeXt', out_indices=[0, 1, 2, 3], "
    'gap_before_final_norm=False, arch=dict(depths=[1, 1, 4, 1], channels=[8, 16, 32, 64])), '
    'neck=dict(in_channels=[8, 16, 32, 64])'
)
MMPRETRAIN_SWIN = (
    "backbone=dict(_delete_=True, type='mmpretrain.SwinTransformer', out_indices=[0, 1, 2, 3], "
    'arch=dict(embed_dims=16, depths=[1, 2, 1, 1], num_heads=[1, 2, 4, 8])), '
    'neck=dict(in_channels=[16, 32, 64, 128])'
)
ADAMW = (
    "optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict("
    "type='AdamW', lr=1e-4, weight_decay=0.05){})\n"
)
RETINANET = 'retinanet/retinanet_r50_fpn_1x_coco'
CONVNEXT_CONFIG = 'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco'
# Of its four stages, blocks a branch, and branches.
HRNET = {
    f'stage{n}': dict(num_modules=1, num_branches=n, block='BOTTLENECK' if n == 1 else 'BASIC',
                      num_blocks=(1,) * n, num_channels=(8, 16, 32, 64)[:n])
    for n in range(1, 5)
}  # fmt: skip


@pytest.fixture
def adapted(tmp_path):
    """A detector as ``adapt`` makes it, and the names of what an export of its own fills."""

    def make(name, narrow, lines=''):
        path = tmp_path / 'detector.py'
        path.write_text(f"_base_ = 'mmdet::{name}.py'\nmodel = dict({narrow})\n{lines}")
        held = load_detector(str(path))
        finetune = ChildConfig(str(path), held, finetune_changes(held, 'weights.pth'))
        recipe = Config.fromfile(RECIPE)
        pretrain = ChildConfig(RECIPE, recipe, pretrain_changes(finetune.load(), recipe)).load()
        weights = to_mmdet(build(pretrain.model, 'mcl_mm').state_dict())
        return finetune, set(check_fit(finetune.load(), weights).loaded)

    return make


def with_rates(config, filled, **options):
    changes = rate_changes(config.load(), filled, **options)
    return config._replace(changes=[*config.changes, *changes])


def rates(cfg):
    """Rate and weight decay of each parameter of the built optimiser, of the optimiser's own rate."""
    model = build(cfg.model, 'mmdet').train()
    optim = ConfigDict(cfg.optim_wrapper, type='OptimWrapper')
    for name in ('loss_scale', 'dtype'):
        optim.pop(name, None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        groups = build_optim_wrapper(model, optim).optimizer.param_groups
    found = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    base = optim.optimizer.lr
    return {
        name: (found[id(p)][0] / base, found[id(p)][1])
        for name, p in model.named_parameters()
        if id(p) in found
    }


def resnet_layers(name, blocks=6):
    """Layers between a parameter of a ResNet and the neck: three blocks of stage 3 are one."""
    if not name.startswith(('backbone.', 'roi_head.shared_head.')):
        return 0
    found = re.search(r'\.layer(\d)\.(\d+)\.', name)
    groups = (blocks + 2) // 3
    if not found:
        return groups + 4
    stage, block = map(int, found.groups())
    return (0, groups + 3, groups + 2, groups + 1 - block // 3, 1)[stage]


@pytest.mark.parametrize(
    ('name', 'narrow', 'new'),
    [
        ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', NARROW,
         r'rpn_head|roi_head\.(mask_head|bbox_head\.(fc_|shared_fcs))'),
        ('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco', NARROW,
         r'rpn_head|roi_head\.bbox_head\.\d\.(fc_|shared_fcs)'),
        (RETINANET, NARROW, r'bbox_head|neck\.fpn_convs\.[34]'),
        ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco', NARROW, r'bbox_head|neck\.fpn_convs\.[34]'),
        ('faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco', 'backbone=dict(depth=50)',
         r'rpn_head|roi_head\.bbox_head'),
    ],
)  # fmt: skip
def test_pretrained_parts_alone_have_another_rate(adapted, name, narrow, new):
    """Levels of the pyramid that have no weights are spared, and the head's linear layers."""
    config, filled = adapted(name, narrow)
    before = rates(config.load())
    after = rates(with_rates(config, filled, pretrained_lr=0.1).load())
    assert {re.match(new, n) is None for n in before} == {True, False}
    for parameter, (rate, decay) in after.items():
        given, _ = before[parameter]  # FCOS doubles the rates of some biases
        assert rate == pytest.approx(given if re.match(new, parameter) else 0.1), parameter
        assert decay == before[parameter][1], parameter


@pytest.mark.parametrize(('depth', 'blocks'), [(18, 2), (50, 6), (101, 23)])
def test_layers_of_a_resnet(adapted, depth, blocks):
    channels = 8 if depth == 18 else 32
    fpn = f'neck=dict(in_channels={[channels, 2 * channels, 4 * channels, 8 * channels]})'
    narrow = f'backbone=dict(depth={depth}, stem_channels=8, base_channels=8), {fpn}'
    config, filled = adapted(RETINANET, narrow)
    after = rates(with_rates(config, filled, lr_decay=0.6).load())
    for name, (rate, decay) in after.items():
        assert rate == pytest.approx(0.6 ** resnet_layers(name, blocks), rel=1e-5), name
        assert decay == 1e-4


def test_both_at_once_multiply(adapted):
    """In a C4 detector the last stage of the backbone is in the head."""
    config, filled = adapted(
        'faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco', 'backbone=dict(depth=50)'
    )
    after = rates(with_rates(config, filled, pretrained_lr=0.5, lr_decay=0.7).load())
    for name, (rate, _) in after.items():
        pretrained = name.startswith(('backbone.', 'roi_head.shared_head.'))
        wanted = 0.7 ** resnet_layers(name) * (0.5 if pretrained else 1)
        assert rate == pytest.approx(wanted, rel=1e-5), name
    assert 'roi_head.shared_head.layer4.0.conv1.weight' in after


def test_a_detr_keeps_its_other_rates(adapted):
    """Its own factor of the backbone gives way; those of its offsets stay."""
    config, filled = adapted('deformable_detr/deformable-detr_r50_16xb2-50e_coco', DETR)
    before = rates(config.load())
    after = rates(with_rates(config, filled, pretrained_lr=0.5).load())
    own = re.compile('sampling_offsets|reference_points')
    assert before['backbone.conv1.weight'][0] == pytest.approx(0.1)
    assert any(map(own.search, after))
    for name, (rate, decay) in after.items():
        wanted = 0.5 if name.startswith('backbone.') else 0.1 if own.search(name) else 1
        assert rate == pytest.approx(wanted), name
        assert decay == before[name][1]


def test_weight_decay_stays(adapted):
    """Of a Swin norms and tables of positions have none, by keys that are in names anywhere."""
    config, filled = adapted('swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco', SWIN)
    before = rates(config.load())
    after = rates(with_rates(config, filled, pretrained_lr=0.1).load())
    assert {decay for _, decay in before.values()} == {0, 0.05}
    for name, (rate, decay) in after.items():
        assert rate == pytest.approx(0.1 if name in filled else 1), name
        assert decay == before[name][1], name


def convnext_layers(name):
    """Of depths 1, 1, 4, 1: stem 0, stages 1, 2, 3 and 4 by three blocks, 5; then norms and heads."""
    part = name.split('.')
    if part[0] != 'backbone' or part[1].startswith('norm'):
        return 0
    stage = int(part[2])
    first = part[1] == 'downsample_layers'
    return 6 - ((0, 2, 3, 5)[stage] if first else (1, 2, 3 + int(part[3]) // 3, 5)[stage])


def test_layers_of_a_convnext_by_mmdetections_constructor(adapted):
    config, filled = adapted(RETINANET, CONVNEXT, ADAMW.format(''))
    cfg = with_rates(config, filled, lr_decay=0.7).load()
    assert cfg.optim_wrapper.constructor == 'LearningRateDecayOptimizerConstructor'
    shapes = {n: p.dim() for n, p in build(cfg.model, 'mmdet').named_parameters()}
    for name, (rate, decay) in rates(cfg).items():
        assert rate == pytest.approx(0.7 ** convnext_layers(name), rel=1e-5), name
        assert decay == (0 if shapes[name] == 1 else 0.05), name


def test_a_config_that_has_the_constructor_gets_the_factor(adapted):
    narrow = (
        'backbone=dict(arch=dict(_delete_=True, depths=[1, 1, 1, 1], channels=[8, 16, 32, 64])), '
        'neck=dict(in_channels=[8, 16, 32, 64])'
    )
    config, filled = adapted(CONVNEXT_CONFIG, narrow)
    cfg = with_rates(config, filled, lr_decay=0.5).load()
    paramwise = dict(decay_rate=0.5, decay_type='layer_wise', num_layers=4)
    assert cfg.optim_wrapper.paramwise_cfg == paramwise
    with pytest.raises(
        ValueError, match='constructor=.* sets the rates of this detector by itself'
    ):
        with_rates(config, filled, pretrained_lr=0.5)


def test_mmpretrains_backbones_count_their_own_layers(adapted):
    """A Swin's blocks, one after the other; with the rate of pre-trained parts."""
    config, filled = adapted(RETINANET, MMPRETRAIN_SWIN, ADAMW.format(''))
    after = rates(with_rates(config, filled, pretrained_lr=0.2, lr_decay=0.5).load())
    starts = (0, 1, 3, 4)
    for name, (rate, _) in after.items():
        found = re.match(r'backbone\.stages\.(\d)\.(?:blocks\.(\d)|downsample)', name)
        layers = 0
        if name.startswith('backbone.patch_embed'):
            layers = 6
        elif found and found[2]:
            layers = 5 - starts[int(found[1])] - int(found[2])
        elif found:  # with the last block of its stage
            layers = 6 - (*starts, 5)[int(found[1]) + 1]
        wanted = (0.2 if name in filled else 1) * 0.5**layers
        assert rate == pytest.approx(wanted, rel=1e-5), name


def test_few_keys_say_it(adapted):
    """As a person would write it."""
    config, filled = adapted(RETINANET, NARROW)
    (change,) = rate_changes(config.load(), filled, pretrained_lr=0.1)
    assert change.path == 'optim_wrapper.paramwise_cfg'
    assert change.value['custom_keys'] == {
        'backbone.': dict(lr_mult=0.1),
        'neck.': dict(lr_mult=0.1),
        'neck.fpn_convs.3.': dict(lr_mult=1.0),
        'neck.fpn_convs.4.': dict(lr_mult=1.0),
    }
    assert rate_changes(config.load(), filled) == []
    assert rate_changes(config.load(), filled, lr_decay=1.0) == []


@pytest.mark.parametrize(
    ('options', 'lines', 'message'),
    [
        (dict(pretrained_lr=0.0), '', '--pretrained-lr must be a factor above 0, got 0'),
        (dict(pretrained_lr=float('nan')), '', '--pretrained-lr must be a factor above 0, got nan'),
        (dict(lr_decay=1.5), '', r'--lr-decay must be a factor in \(0, 1\], got 1.5'),
        (dict(lr_decay=0.5), 'optim_wrapper = None\n', 'no optim_wrapper.optimizer.lr'),
    ],
)  # fmt: skip
def test_no_factor_no_rate(adapted, options, lines, message):
    config, filled = adapted(RETINANET, NARROW, lines)
    with pytest.raises(ValueError, match=message):
        with_rates(config, filled, **options)


def test_layers_that_nobody_knows(adapted):
    config, filled = adapted('swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco', SWIN)
    with pytest.raises(ValueError, match='does not know the layers of SwinTransformer'):
        with_rates(config, filled, lr_decay=0.5)


@pytest.mark.parametrize(
    'config', [dict(type='MobileNetV2', widen_factor=0.25), dict(type='HRNet', extra=HRNET)]
)
def test_layers_that_have_the_names_of_a_resnets(config):
    """Those of a HRNet after the first stage, or of a MobileNetV2 after the fourth, are others."""
    backbone = build(config, 'mmdet')
    for name, _ in backbone.named_parameters():
        with pytest.raises(ValueError, match=f'not know the layers of {config["type"]}'):
            layers_above(f'backbone.{name}', backbone)


@pytest.mark.parametrize('order', [1, -1])
def test_a_key_that_is_in_other_names_too(order):
    """A part deeper in the model that has the name of a pre-trained one keeps its rate."""
    low, full = Rate(0.1, 1.0), Rate(1.0, 1.0)
    wanted = {'neck.conv.weight': low, 'head.neck.conv.weight': full, 'head.fc.weight': full}
    wanted = dict(list(wanted.items())[::order])
    own = dict.fromkeys(wanted, full)
    keys = keys_for(wanted, own, [])
    assert keys['neck.'] == low
    assert {name: rate_by(name, own, [], keys) for name in wanted} == wanted
    assert rate_by('head.neck.conv.weight', own, [], {'neck.': low}) == low
