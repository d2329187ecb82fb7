"""Other backbones, each from its shipped config to MMDetection's own detector, at a size for tests."""

import copy
import math
import re
from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from test_configs import build_optimizer, rates
from torch import nn
from torchvision.ops import StochasticDepth

from conftest import ROOT, build_detector, draw_images
from conftest import call_tool as call
from mcl_mm.engine.start_check import check_learns, check_norms
from mcl_mm.evaluation.cost import multiply_adds
from mcl_mm.models.mcl import switch_off_dropout
from mcl_mm.models.montage_model import NoPyramidError, stage_channels
from mcl_mm.registry import MODELS
from mcl_mm.transfer import check_load, diagnose, fit_to_detector

FOLDER = ROOT / 'configs/backbones'
RESNET = 'stem_channels=8, base_channels=8'
CONVNEXT = 'arch=dict(_delete_=True, depths=[1, 1, 1, 1], channels=[8, 16, 32, 64])'
SWIN = 'embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]'
TIMM = (
    "_delete_=True, type='mmpretrain.TIMMBackbone', model_name='tv_resnet50', "
    'features_only=True, pretrained=True, out_indices=(1, 2, 3, 4)'
)
# Narrow version, MMDetection's config, what its backbone differs in, the widths of the stages.
BACKBONES = {
    'r18': (
        RESNET,
        'mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco',
        RESNET,
        [8, 16, 32, 64],
    ),
    'r34': (
        RESNET,
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
        f'depth=34, {RESNET}',
        [8, 16, 32, 64],
    ),
    'r101': (RESNET, 'mask_rcnn/mask-rcnn_r101_fpn_1x_coco', RESNET, [32, 64, 128, 256]),
    'resnext50-32x4d': (
        RESNET,
        'mask_rcnn/mask-rcnn_x101-32x4d_fpn_1x_coco',
        f'depth=50, {RESNET}',
        [32, 64, 128, 256],
    ),
    'timm-resnet50': (
        "model_name='resnet18'",
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
        TIMM.replace('tv_resnet50', 'resnet18'),
        [64, 128, 256, 512],
    ),
    'convnext-t': (
        CONVNEXT,
        'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco',
        CONVNEXT,
        [8, 16, 32, 64],
    ),
    'swin-t': (SWIN, 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco', SWIN, [16, 32, 64, 128]),
}
PRETRAIN = """
_base_ = {base!r}
view_pipeline_q = _base_.view_pipeline_q
view_pipeline_k = _base_.view_pipeline_k
view_pipeline_q[0].scale = view_pipeline_k[0].scale = 64
multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.transforms = [view_pipeline_q, view_pipeline_k]
model = dict(
    backbone=dict({narrow}),
    neck=dict(out_channels=16, hid_channels=16, embed_channels=8),
    head=dict(in_channels=8, hid_channels=16),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root={images!r},
        pipeline=[
            dict(type='LoadAnyImage'),
            multi_view,
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
train_cfg = dict(max_epochs=1)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
log_level = 'ERROR'
"""
DETECTOR = """
_base_ = 'mmdet::{base}.py'
custom_imports = dict(imports=['mmpretrain.models'])
model = dict(
    backbone=dict({narrow}),
    neck=dict(in_channels={channels}, out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16),
    ),
)
"""
LAYER_NORM = ('convnext-t', 'swin-t')
ADDED = dict(neck=dict(type='GN', num_groups=4), head=dict(type='GN', num_groups=4))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw_images(tmp_path_factory.mktemp('backbones') / 'images', 12)


@pytest.fixture
def narrow(tmp_path, images):
    """The shipped config of a backbone at a size for tests, as a file."""

    def write(name):
        path = tmp_path / f'{name}.py'
        base = str(FOLDER / f'mcl_{name}_100e.py')
        path.write_text(PRETRAIN.format(base=base, narrow=BACKBONES[name][0], images=str(images)))
        return path

    return write


def build_mcl(model):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(model)
    model.init_weights()
    return model


def sheets_of(model, views):
    return model.data_preprocessor(dict(inputs=views))['inputs']


@pytest.mark.parametrize('name', BACKBONES)
def test_from_images_to_the_detector(name, narrow, monkeypatch, tmp_path, capsys):
    """Trains, exports, and MMDetection's own config uses every tensor and computes the same maps."""
    _, base, detector, channels = BACKBONES[name]
    pretrain, export = narrow(name), tmp_path / 'export.pth'
    call(monkeypatch, 'train', pretrain, '--work-dir', tmp_path / 'run')
    call(monkeypatch, 'export', tmp_path / 'run/epoch_1.pth', export)
    path = tmp_path / 'detector.py'
    path.write_text(DETECTOR.format(base=base, narrow=detector, channels=channels))
    call(monkeypatch, 'adapt', path, '--weights', export)

    trained = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)
    assert trained['meta']['iter'] == 3
    cfg = Config.fromfile(pretrain)
    ours = build_mcl(cfg.model)
    untrained = {key: value.clone() for key, value in ours.named_parameters()}
    ours.load_state_dict(trained['state_dict'])
    for key, value in ours.named_parameters():
        assert torch.isfinite(value).all(), key
    moved = {key.split('.')[0] for key, value in ours.named_parameters()
             if not torch.equal(value, untrained[key])}  # fmt: skip
    assert moved == {'backbone', 'neck', 'head', 'target'}

    file = torch.load(export, weights_only=True)
    assert file['meta']['backbone'] == cfg.model.backbone.to_dict()
    adapted = Config.fromfile(tmp_path / 'detector_finetune.py')
    theirs = build_detector(adapted.model)
    weights = fit_to_detector(file['state_dict'], theirs)
    report = check_load(theirs, weights)
    assert not report.unexpected
    assert not report.mismatched
    places = ('backbone.', 'neck.', 'roi_head.bbox_head.shared_convs.')
    assert not [key for key in report.missing if key.startswith(places)]
    assert set(report.loaded) == set(weights) == set(file['state_dict'])
    diagnosis = diagnose(theirs, file, adapted, ('backbone', 'neck', 'box_head'), processes=8)
    assert not diagnosis.errors
    traps = {trap.id for trap in diagnosis.traps}
    # timm's layers take no norm_cfg: the doctor says sync_bn = 'torch' for them.
    assert ('bn-small-batch' in traps) == ('timm' in name)
    assert traps <= {'bn-small-batch', 'few-epochs', 'lr-not-scaled', 'lr-far'}

    _load_checkpoint_to_model(theirs, dict(state_dict=weights))
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        ours.eval()
        theirs.eval()
        for found, expected in zip(theirs.extract_feat(image), ours.extract_feat(image)):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize('name', BACKBONES)
def test_weight_decay(name, narrow):
    """None for norms, biases, scales and positions; all else decays; LARS adapts no 1-d parameter."""
    cfg = Config.fromfile(narrow(name))
    model = build_mcl(cfg.model)
    names = {id(p): key for key, p in model.named_parameters()}
    optimizer = build_optimizer(cfg, model).optimizer
    adamw = name in LAYER_NORM
    assert type(optimizer).__name__ == ('AdamW' if adamw else 'LARS')
    decay, rate = (0.1, 2.4e-3) if adamw else (1e-5, 16.0)
    for group in optimizer.param_groups:
        for p in group['params']:
            key = names[id(p)]
            if key.startswith('target.'):
                continue
            spared = p.dim() == 1 or 'relative_position_bias_table' in key
            assert group['weight_decay'] == (0 if spared else decay), key
            assert group['lr'] == rate
            if not adamw:
                assert bool(group.get('lars_exclude')) == spared, key


@pytest.mark.parametrize('name', LAYER_NORM)
def test_adamw_rates(name):
    """A linear rise of 10 epochs times a cosine over 100, from and to almost nothing."""
    cfg = Config.fromfile(FOLDER / f'mcl_{name}_100e.py')
    found = torch.tensor(rates(cfg, 1000, epoch_length=10), dtype=torch.float64)
    i = torch.arange(1000, dtype=torch.float64)
    warm_up = (1e-4 + (1 - 1e-4) * i / 99).clamp(max=1)
    expected = 2.4e-3 * warm_up * (1 + torch.cos(torch.pi * i / 1000)) / 2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    assert cfg.auto_scale_lr.base_batch_size * 1.5e-4 / 256 == cfg.optim_wrapper.optimizer.lr


@pytest.mark.parametrize('name', LAYER_NORM)
def test_without_batch_norm_what_is_joint_changes_nothing(name, narrow, views):
    losses = []
    for joint in ('all', 'backbone', 'none'):
        model = Config.fromfile(narrow(name)).model
        for part, norm_cfg in ADDED.items():
            model[part].norm_cfg = norm_cfg
        model = build_mcl(dict(model, joint=joint)).train()
        torch.manual_seed(1)
        losses.append(model.loss(sheets_of(model, views(4))))
    for other in losses[1:]:
        torch.testing.assert_close(other, losses[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['convnext-t', 'swin-t', 'timm-resnet50'])
def test_memory_format_changes_nothing(name, narrow):
    model = Config.fromfile(narrow(name)).model
    plain, last = build_mcl(model).eval(), build_mcl(dict(model, channels_last=True)).eval()
    last.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(plain.extract_feat(image), last.extract_feat(image)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', BACKBONES)
def test_several_processes_find_a_gradient_for_every_parameter(name, narrow, views):
    """Without find_unused_parameters, which no config of a backbone sets."""
    cfg = Config.fromfile(narrow(name))
    assert 'find_unused_parameters' not in cfg
    model = build_mcl(cfg.model).train()
    losses = model.loss(sheets_of(model, views(4)))
    sum(value for key, value in losses.items() if key.startswith('loss')).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize('name', LAYER_NORM)
def test_overfits_eight_images(name, narrow, views):
    """The loss falls far below that of blind predictions, 4 ln 8, by the recipe's own optimiser."""
    cfg = Config.fromfile(narrow(name))
    model = build_mcl(cfg.model).train()
    batch = sheets_of(model, [views(8)[0]] * 8)
    optimizer = build_optimizer(cfg, model).optimizer
    history = []
    for _ in range(16):
        losses = model.loss(batch)
        optimizer.zero_grad()
        loss = sum(value for key, value in losses.items() if key.startswith('loss'))
        loss.backward()
        optimizer.step()
        model.update_target(0.9)
        history.append(loss.item())
    assert history[0] == pytest.approx(4 * math.log(8), rel=0.1)
    assert history[-1] < history[0] - 2


def test_target_has_no_stochastic_depth(narrow, views):
    """The same images have the same targets, while the online network drops paths."""
    model = Config.fromfile(narrow('swin-t')).model
    model.backbone.update(drop_path_rate=0.9, drop_rate=0.5)
    model = build_mcl(model).train()
    q, _ = sheets_of(model, views(4))
    assert torch.equal(model.embed_images(q), model.embed_images(q))
    assert not torch.equal(model.embed_tiles(q)[0], model.embed_tiles(q)[0])


@pytest.mark.parametrize('layer', [nn.Dropout(0.5), nn.Dropout2d(0.5), StochasticDepth(0.5, 'row')])
def test_dropout_that_is_switched_off_is_off(layer):
    switch_off_dropout(nn.Sequential(layer))
    x = torch.randn(64, 4, 2, 2)
    assert torch.equal(layer.train()(x), x)


@pytest.mark.parametrize(
    ('backbone', 'expected'),
    [
        (dict(type='mmdet.RegNet', arch='regnetx_400mf', norm_eval=False), [32, 64, 160, 384]),
        (dict(type='mmdet.PyramidVisionTransformerV2', embed_dims=32), [32, 64, 160, 256]),
        (dict(type='mmpretrain.TIMMBackbone', model_name='pvt_v2_b0', features_only=True),
         [32, 64, 160, 256]),
        # Nothing below 224 pixels.
        (dict(type='mmpretrain.SwinTransformer', arch='tiny', out_indices=(0, 1, 2, 3)),
         [96, 192, 384, 768]),
    ],
)  # fmt: skip
def test_channels_of_the_stages(backbone, expected):
    """As published; looking leaves no trace."""
    backbone = MODELS.build(backbone)
    before, state = copy.deepcopy(backbone.state_dict()), torch.get_rng_state()
    modes = [module.training for module in backbone.modules()]
    assert stage_channels(backbone) == expected
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert modes == [module.training for module in backbone.modules()]


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        (dict(type='mmpretrain.ResNet', depth=18, out_indices=(1, 2, 3)), r'stride \[8, 16, 32\]'),
        (dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', features_only=True),
         r'stride \[2, 4, 8, 16, 32\].*out_indices'),
        (dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', features_only=True,
              out_indices=(0, 1, 2, 3)), r'stride \[2, 4, 8, 16\].*out_indices'),
        (dict(type='mmpretrain.VisionTransformer', arch='deit-t', out_type='cls_token'),
         r'no list of maps'),
        (dict(type='mmpretrain.VisionTransformer', arch='deit-t', out_type='raw'),
         'no list of maps'),
        (dict(type='mmpretrain.VisionTransformer', arch='deit-t', out_type='featmap'),
         r'stride \[16\]'),
    ],
)  # fmt: skip
def test_backbones_without_four_stages_are_refused(tiny_config, build, backbone, message):
    del tiny_config['neck']['in_channels']
    tiny_config['backbone'] = backbone
    with pytest.raises(NoPyramidError, match=message):
        build(tiny_config)


def test_adapting_what_timm_would_download(tmp_path, monkeypatch):
    """MMDetection's own example: the flag that fetches weights goes, for the export has them."""
    name = 'retinanet_timm-tv-resnet50_fpn_1x_coco'
    call(monkeypatch, 'adapt', f'mmdet::timm_example/{name}.py', '--out-dir', tmp_path)
    finetune = Config.fromfile(tmp_path / f'{name}_finetune.py')
    assert finetune.model.backbone.pretrained is False
    ours = Config.fromfile(tmp_path / f'{name}_pretrain.py').model
    shipped = Config.fromfile(FOLDER / 'mcl_timm-resnet50_100e.py').model
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        ours, shipped = (MODELS.build(model).state_dict() for model in (ours, shipped))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in shipped.items()}


@pytest.mark.parametrize(
    ('model_name', 'refused'), [('efficientnet_b0', True), ('resnet18', False)]
)
def test_synchronised_norms_that_lost_their_activation_are_refused(model_name, refused):
    """timm's BatchNormAct2d becomes a SyncBatchNorm that computes less."""
    backbone = dict(type='mmpretrain.TIMMBackbone', model_name=model_name, features_only=True)
    backbone = convert_sync_batchnorm(MODELS.build(backbone), 'torch')
    if not refused:
        check_norms(backbone)
        return
    with pytest.raises(ValueError, match=r'bn1 was batch norm with an activation.*sync_bn=None'):
        check_norms(backbone)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(norm_eval=False), None),
        (dict(), r'backbone.bn1 would stay .*norm_eval=False'),
        (dict(norm_eval=False, frozen_stages=1), r'backbone.conv1 would stay .*frozen_stages=-1'),
        (dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')), None),
    ],
)
def test_layers_that_would_stay_random_are_refused(settings, message):
    """MMDetection's ResNets keep batch norm still by default."""
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=18, **settings))
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        check_learns(backbone)


def test_table_lists_every_config_with_its_cost():
    table = (ROOT / 'docs/backbones.md').read_text()
    listed = dict(re.findall(r'^\| `mcl_([\w-]+)_100e\.py` .*\| ([\d.]+) \|', table, re.M))
    assert listed.keys() == BACKBONES.keys()
    assert {path.name for path in FOLDER.glob('*.py')} == {f'mcl_{n}_100e.py' for n in BACKBONES}
    for name, cost in listed.items():  # the command below the table prints all
        path = FOLDER / f'mcl_{name}_100e.py'
        assert f'{cost} G multiply-adds an image' in path.read_text()
        if name == 'r18':
            counted, _ = multiply_adds(Config.fromfile(path).model, 32, 224)
            assert counted / 1e9 == pytest.approx(float(cost), abs=0.06)
