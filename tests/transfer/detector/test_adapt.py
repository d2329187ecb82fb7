"""Adapted detectors: nothing of the weights is lost, and nothing changes without a reason."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from conftest import ROOT
from mcl_mm.models.montage_model import NoPyramidError
from mcl_mm.registry import MODELS
from mcl_mm.transfer import check_load, diagnose, to_mmdet
from mcl_mm.transfer.detector.adapt import carried, check_fit, finetune_changes
from mcl_mm.transfer.detector.child_config import (
    STYLE,
    Change,
    ChildConfig,
    FormatCode,
    as_code,
)
from mcl_mm.transfer.detector.fit import PARTS, fit_to_detector
from mcl_mm.transfer.detector.pretrain import pretrain_changes
from mcl_mm.transfer.detector.settings import base_of, build, load_detector

pytestmark = pytest.mark.usefixtures('quick_weights')
RECIPE = str(ROOT / 'configs/mcl_r50_100e.py')
SYNC_BN = dict(type='SyncBN', requires_grad=True)

# The same networks, narrow: tests are about names and shapes.
RESNET = 'backbone=dict(stem_channels=8, base_channels=8)'
FPN = 'neck=dict(in_channels=[32, 64, 128, 256])'
NARROW = f'{RESNET}, {FPN}'
DETR = (
    f'{RESNET}, neck=dict(in_channels=[64, 128, 256]), '
    'encoder=dict(num_layers=1), decoder=dict(num_layers=1)'
)
SWIN = (
    'backbone=dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]), '
    'neck=dict(in_channels=[16, 32, 64, 128])'
)
PIXEL_DECODER = 'panoptic_head=dict(in_channels=[32, 64, 128, 256])'

# Detector, its narrow version, the lowest level of its FPN (None: no FPN), its box heads with convs.
DETECTORS = {
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco': (NARROW, 2, 1),
    'mask_rcnn/mask-rcnn_r101_fpn_1x_coco': (NARROW, 2, 1),
    'mask_rcnn/mask-rcnn_x101-64x4d_fpn_1x_coco': (
        f'backbone=dict(depth=50, groups=2, base_width=4, stem_channels=8, base_channels=8), {FPN}',
        2,
        1,
    ),
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco': (NARROW, 2, 3),
    'faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco': (NARROW, 2, 1),
    'gn/mask-rcnn_r50_fpn_gn-all_2x_coco': (
        'backbone=dict(stem_channels=32, base_channels=32), '
        'neck=dict(in_channels=[128, 256, 512, 1024])',
        2,
        1,
    ),
    'libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco': (RESNET, 2, 1),
    'double_heads/dh-faster-rcnn_r50_fpn_1x_coco': (NARROW, 2, 0),
    'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco': (SWIN, 2, 1),
    'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco': (
        'backbone=dict(arch=dict(_delete_=True, depths=[1, 1, 1, 1], channels=[8, 16, 32, 64])), '
        'neck=dict(in_channels=[8, 16, 32, 64])',
        2,
        1,
    ),
    'retinanet/retinanet_r50_fpn_1x_coco': (NARROW, 3, 0),
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco': (NARROW, 3, 0),
    'atss/atss_r50_fpn_1x_coco': (NARROW, 3, 0),
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco': (DETR, None, 0),
    'dino/dino-4scale_r50_8xb2-12e_coco': (DETR, None, 0),
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco': (f'{RESNET}, {PIXEL_DECODER}', None, 0),
    'rtmdet/rtmdet_tiny_8xb32-300e_coco': ('', None, 0),
}


# What the doctor may find in an adapted config: schedules are the user's, and other box heads.
LEFT_ALONE = {'lr-not-scaled', 'lr-far', 'no-warmup', 'no-decay', 'few-epochs'}
OTHER_HEADS = {
    'double_heads/dh-faster-rcnn_r50_fpn_1x_coco': {'no-box-convs', 'bn-small-batch'},
    'gn/mask-rcnn_r50_fpn_gn-all_2x_coco': {'norm-eval'},  # there is no batch norm to keep still
}


class Pair:
    """A detector's config, and the two that are made for it."""

    def __init__(self, base, names=None):
        self.base = str(base)
        self.detector = load_detector(self.base)
        self.finetune = ChildConfig(
            self.base, self.detector, finetune_changes(self.detector, 'weights.pth', names)
        )
        self.adapted = self.finetune.load()
        recipe = Config.fromfile(RECIPE)
        self.pretrain = ChildConfig(RECIPE, recipe, pretrain_changes(self.adapted, recipe))


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Make a pair for a detector of MMDetection in its narrow version, once."""
    made = {}

    def make(name):
        if name not in made:
            narrow = DETECTORS[name][0]
            if name.startswith('libra'):
                narrow += (
                    ', neck=[dict(_base_.model.neck[0], in_channels=[32, 64, 128, 256]), '
                    '_base_.model.neck[1]]'
                )
            path = tmp_path_factory.mktemp('detector') / 'detector.py'
            path.write_text(f"_base_ = 'mmdet::{name}.py'\nmodel = dict({narrow})\n")
            made[name] = Pair(path)
        return made[name]

    return make


def make_config(tmp_path, text, name='detector'):
    path = tmp_path / f'{name}.py'
    path.write_text(text)
    return path


@pytest.mark.parametrize('name', DETECTORS)
def test_export_of_the_pretraining_model_fills_the_detector(pair, name):
    """All of backbone and pyramid is used, and both networks compute the same maps with it."""
    _, lowest, heads = DETECTORS[name]
    configs = pair(name)
    ours = build(configs.pretrain.load().model, 'mcl_mm')
    generator = torch.Generator().manual_seed(0)
    for key, value in ours.state_dict().items():
        if value.is_floating_point():  # far from any initialisation, statistics of BN included
            value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.01 * ('var' in key))
    theirs = build(configs.adapted.model, 'mmdet')
    weights = fit_to_detector(to_mmdet(ours.state_dict()), theirs)
    loaded = set(check_load(theirs, weights).loaded)
    own = set(theirs.state_dict())
    assert {key for key in own if key.startswith('backbone.')} <= loaded

    parts = configs.adapted.custom_hooks[-1].get('parts', PARTS)
    assert set(parts) == ({'backbone'} if lowest is None else set(PARTS))
    diagnosis = diagnose(
        theirs, dict(state_dict=to_mmdet(ours.state_dict())), configs.adapted, parts, processes=8
    )
    assert not diagnosis.errors
    assert {trap.id for trap in diagnosis.traps} <= LEFT_ALONE | OTHER_HEADS.get(name, set())

    _load_checkpoint_to_model(theirs, dict(state_dict=weights))
    ours.eval()
    theirs.eval()
    image = torch.randn(1, 3, 64, 96, generator=generator)
    with torch.no_grad():
        stages = {m.shape[-1]: m for m in ours.backbone(image)}
        for found in theirs.backbone(image):
            torch.testing.assert_close(found, stages[found.shape[-1]], rtol=0, atol=0)
        if lowest is not None:
            pyramid = (
                theirs.neck[0] if isinstance(theirs.neck, torch.nn.Sequential) else theirs.neck
            )
            maps = pyramid(theirs.backbone(image))
            expected = ours.extract_feat(image)[lowest - 2 :]
            for found, wanted in zip(maps, expected, strict=False):
                torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    convs = {key for key in own if '.shared_convs.' in key}
    assert convs <= loaded
    assert len({key.split('.shared_convs.')[0] for key in convs}) == heads


def leaves(config, path=''):
    """Every setting of a config, keyed by its path."""
    if isinstance(config, dict) and config:
        items = config.items()
    elif isinstance(config, (list, tuple)) and any(isinstance(e, dict) for e in config):
        items = enumerate(config)
    else:
        return {path: config}
    return {
        key: leaf
        for name, value in items
        for key, leaf in leaves(value, f'{path}.{name}' if path else str(name)).items()
    }


def covered(path, changed):
    return any(f'{leaf}.'.startswith(f'{path}.') for leaf in changed)


@pytest.mark.parametrize('name', DETECTORS)
@pytest.mark.parametrize('aim', ['finetune', 'pretrain'])
def test_every_reason_is_of_a_change_and_every_change_has_a_reason(pair, name, aim):
    config = getattr(pair(name), aim)
    before, after = leaves(config.held.to_dict()), leaves(config.load().to_dict())
    changed = {
        key for key in before.keys() | after.keys() if before.get(key, pair) != after.get(key, pair)
    }
    paths = [change.path for change in config.changes]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert covered(path, changed), path
    for leaf in changed:
        assert any(
            f'{leaf}.'.startswith(f'{path}.') or path.startswith(f'{leaf}.') for path in paths
        ), leaf
    assert all(change.reason.endswith('.') for change in config.changes)
    words = '\n'.join(config.reasons())
    assert all(change.reason in words for change in config.changes)


@pytest.mark.parametrize('aim', ['finetune', 'pretrain'])
def test_written_configs_fit_a_screen(pair, aim):
    """And are written as yapf writes them, which is what MMEngine writes configs by."""
    for name in DETECTORS:
        config = getattr(pair(name), aim)
        text = config.text(['Words.', *config.reasons()])
        breakable = [line for line in text.splitlines() if len(line.split()) > 2]  # no long URL
        assert max(map(len, breakable)) <= 100
        assert FormatCode(text, style_config=STYLE) == (text, False)


def test_two_stage_detector(pair):
    model = pair('faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco').adapted.model
    assert model.backbone.norm_cfg == SYNC_BN
    assert (model.backbone.frozen_stages, model.backbone.norm_eval) == (-1, False)
    assert (model.backbone.style, model.backbone.init_cfg) == ('pytorch', None)
    assert model.neck.norm_cfg == SYNC_BN
    assert model.roi_head.bbox_head.type == 'Shared4Conv1FCBBoxHead'
    assert model.roi_head.bbox_head.norm_cfg == SYNC_BN
    assert model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert model.data_preprocessor.std == [58.395, 57.12, 57.375]
    assert model.data_preprocessor.bgr_to_rgb is True


def test_each_stage_of_a_cascade_keeps_its_own_settings(pair):
    configs = pair('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco')
    before = configs.detector.model.roi_head.bbox_head
    after = configs.adapted.model.roi_head.bbox_head
    for old, new in zip(before, after, strict=True):
        assert new == dict(old, type='Shared4Conv1FCBBoxHead', norm_cfg=SYNC_BN)
    assert len({tuple(new.bbox_coder.target_stds) for new in after}) == 3


def test_detr_keeps_its_learning_rates_and_its_neck(pair):
    configs = pair('deformable_detr/deformable-detr_r50_16xb2-50e_coco')
    assert configs.adapted.optim_wrapper == configs.detector.optim_wrapper
    assert configs.adapted.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
    assert configs.adapted.model.neck == configs.detector.model.neck
    assert (
        configs.adapted.model.backbone.norm_eval,
        configs.detector.model.backbone.norm_eval,
    ) == (
        False,
        True,
    )
    assert 'backbone alone' in carried(configs.adapted)
    assert 'ChannelMapper' in carried(configs.adapted)


def test_group_norm_stays(pair):
    """A detector without batch norm is pre-trained without: its norms are not replaced."""
    configs = pair('gn/mask-rcnn_r50_fpn_gn-all_2x_coco')
    model = configs.pretrain.load().model
    norms = [m for m in build(model, 'mcl_mm').modules() if 'BatchNorm' in type(m).__name__]
    # The predictors of the head are not carried.
    assert {type(m).__name__ for m in norms} <= {'BatchNorm1d'}
    assert configs.adapted.model.neck.norm_cfg.type == 'GN'
    assert configs.adapted.model.roi_head.bbox_head.norm_cfg.type == 'GN'


def test_neck_of_another_kind_gets_nothing(tmp_path):
    """HRFPN has convs of the names and shapes of an FPN's, which are to be used otherwise."""
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
        "model = dict(neck=dict(_delete_=True, type='HRFPN', in_channels=[256, 512, 1024, 2048], "
        'out_channels=256))\n',
    )
    configs = Pair(base)
    weights = to_mmdet(build(configs.pretrain.load().model, 'mcl_mm').state_dict())
    assert weights['neck.fpn_convs.0.conv.weight'].shape == (256, 256, 3, 3)
    report = check_fit(configs.adapted, weights)
    assert report.loaded
    assert all(name.startswith('backbone.') for name in report.loaded)
    assert configs.adapted.custom_hooks[-1].parts == ('backbone',)
    assert 'backbone alone. There is no FPN (HRFPN)' in carried(configs.adapted)


@pytest.mark.parametrize(
    ('name', 'sentences'),
    [
        ('retinanet/retinanet_r50_fpn_1x_coco',
         ['begins at P3, without a place for P2', 'above P5 start at random',
          'The head starts at random']),
        ('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco', ['box head of each of 3 stages']),
        ('double_heads/dh-faster-rcnn_r50_fpn_1x_coco', ['has no place for convs']),
        ('mask2former/mask2former_r50_8xb2-lsj-50e_coco', ['no neck', 'starts at random']),
    ],
)  # fmt: skip
def test_what_is_carried_in_words(pair, name, sentences):
    for sentence in sentences:
        assert sentence in carried(pair(name).adapted)


def test_users_hooks_imports_classes_and_data_stay(tmp_path):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        "custom_imports = dict(imports='json.tool', allow_failed_imports=True)\n"
        "custom_hooks = [dict(type='EMAHook', momentum=0.01)]\n"
        "load_from = 'coco.pth'\n"
        "train_dataloader = dict(batch_size=7, dataset=dict(metainfo=dict(classes=('a', 'b'))))\n"
        'model = dict(bbox_head=dict(num_classes=2))\n',
    )
    configs = Pair(base)
    adapted = configs.adapted
    assert adapted.custom_imports == dict(
        imports=['json.tool', 'mcl_mm'], allow_failed_imports=True
    )
    assert adapted.custom_hooks == [
        dict(type='EMAHook', momentum=0.01),
        dict(type='mcl_mm.TransferHook'),
    ]
    assert adapted.train_dataloader == configs.detector.train_dataloader
    assert adapted.model.bbox_head == configs.detector.model.bbox_head
    assert adapted.load_from == 'weights.pth'
    assert any('instead of coco.pth' in reason for reason in configs.finetune.reasons())
    # Adapting what is adapted changes the weights only.
    (tmp_path / 'adapted.py').write_text(configs.finetune.text())
    again = finetune_changes(load_detector(str(tmp_path / 'adapted.py')), 'other.pth')
    assert [(change.path, change.value) for change in again] == [('load_from', 'other.pth')]


@pytest.mark.parametrize('parts', [('backbone', 'neck'), ('backbone',)])
def test_parts_that_the_users_hook_leaves_out_stay(tmp_path, parts):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
        "custom_imports = dict(imports=['mcl_mm'])\n"
        f"custom_hooks = [dict(type='mcl_mm.TransferHook', parts={parts})]\n"
        f'model = dict({NARROW})\n',
    )
    configs = Pair(base)
    model, before = configs.adapted.model, configs.detector.model
    assert configs.adapted.custom_hooks == configs.detector.custom_hooks
    assert model.backbone.norm_cfg == SYNC_BN
    assert model.neck.get('norm_cfg') == (SYNC_BN if 'neck' in parts else None)
    assert model.roi_head == before.roi_head
    weights = to_mmdet(build(configs.pretrain.load().model, 'mcl_mm').state_dict())
    loaded = check_fit(configs.adapted, weights).loaded
    assert {name.split('.')[0] for name in loaded} == set(parts)
    assert f'carries {" and ".join(parts)} alone' in carried(configs.adapted)


def test_settings_that_are_defaults_count(tmp_path):
    """MMDetection's ResNet has norm_eval=True where a config says nothing."""
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        "model = dict(backbone=dict(_delete_=True, type='ResNet', depth=18), "
        'neck=dict(in_channels=[64, 128, 256, 512]))\n',
    )
    configs = Pair(base)
    assert configs.adapted.model.backbone == dict(
        type='ResNet', depth=18, norm_cfg=SYNC_BN, norm_eval=False
    )
    assert configs.pretrain.load().model.backbone.norm_eval is False


def test_other_settings_of_batch_norm_stay(tmp_path):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        "model = dict(backbone=dict(norm_cfg=dict(type='BN', eps=1e-3, requires_grad=False)))\n",
    )
    configs = Pair(base)
    assert configs.adapted.model.backbone.norm_cfg == dict(SYNC_BN, eps=1e-3)
    assert configs.pretrain.load().model.backbone.norm_cfg == dict(
        type='BN', requires_grad=True, eps=1e-3
    )


def test_other_settings_of_the_pyramids_norm_stay(tmp_path):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        "model = dict(neck=dict(norm_cfg=dict(type='BN', momentum=0.03), act_cfg=dict(type='ReLU')))\n",
    )
    configs = Pair(base)
    assert configs.adapted.model.neck.norm_cfg == dict(SYNC_BN, momentum=0.03)
    assert configs.adapted.model.neck.act_cfg is None
    neck = build(configs.pretrain.load().model, 'mcl_mm').neck
    assert type(neck.fpn.fpn_convs[0].bn) is torch.nn.BatchNorm2d
    assert neck.fpn.fpn_convs[0].bn.momentum == 0.03


def test_own_backbone_comes_along(tmp_path, monkeypatch):
    """A class of the user's own, in MMDetection's registry, is imported by both configs."""
    (tmp_path / 'my_backbones.py').write_text(
        'from mmdet.models import ResNet\n'
        'from mmdet.registry import MODELS\n'
        '@MODELS.register_module(force=True)\n'
        'class MyResNet(ResNet):\n'
        '    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        "custom_imports = dict(imports=['my_backbones'])\n"
        "model = dict(backbone=dict(type='MyResNet', base_channels=8, stem_channels=8, init_cfg=None,\n"
        "                           pretrained='torchvision://resnet50'),\n"
        '             neck=dict(in_channels=[32, 64, 128, 256]))\n',
    )
    configs = Pair(base)
    assert configs.adapted.custom_imports.imports == ['my_backbones', 'mcl_mm']
    assert configs.adapted.model.backbone.pretrained is None
    pretrain = configs.pretrain.load()
    assert pretrain.custom_imports.imports == ['my_backbones']
    assert type(build(pretrain.model, 'mcl_mm').backbone).__name__ == 'MyResNet'


def test_box_head_is_as_wide_as_the_pyramid(tmp_path):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
        'model = dict(neck=dict(out_channels=32), rpn_head=dict(in_channels=32), roi_head=dict('
        'bbox_roi_extractor=dict(out_channels=32), bbox_head=dict(in_channels=32)))\n',
    )
    configs = Pair(base)
    assert configs.adapted.model.roi_head.bbox_head.conv_out_channels == 32
    weights = to_mmdet(build(configs.pretrain.load().model, 'mcl_mm').state_dict())
    assert weights['roi_head.bbox_head.shared_convs.3.conv.weight'].shape == (32, 32, 3, 3)
    report = check_fit(configs.adapted, weights)
    assert not report.unexpected
    assert not report.mismatched


@pytest.mark.parametrize(
    ('backbone', 'channels', 'indices'),
    [
        # Swin has a norm for each map it gives: pre-training has one more than the detector.
        (
            "'SwinTransformer', embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], "
            'out_indices=(1, 2, 3)',
            [32, 64, 128],
            (0, 1, 2, 3),
        ),
        # The stem counts as one here.
        (
            "'CSPNeXt', deepen_factor=0.2, widen_factor=0.125, out_indices=(2, 3, 4)",
            [32, 64, 128],
            (1, 2, 3, 4),
        ),
    ],
)
def test_backbone_that_gives_three_of_its_stages(tmp_path, backbone, channels, indices):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        f'model = dict(backbone=dict(_delete_=True, type={backbone}), '
        f'neck=dict(in_channels={channels}, start_level=0))\n',
    )
    configs = Pair(base)
    pretrain = configs.pretrain.load()
    assert pretrain.model.backbone.out_indices == indices
    weights = to_mmdet(build(pretrain.model, 'mcl_mm').state_dict())
    report = check_fit(configs.adapted, weights)
    assert not [name for name in report.missing if name.startswith(('backbone.', 'neck.lateral'))]
    assert 'begins at P3' in carried(configs.adapted)


@pytest.mark.parametrize(
    ('names', 'norm', 'head'),
    [
        (['backbone.conv1.weight'], None, 'Shared2FCBBoxHead'),
        (['backbone.conv1.weight', 'neck.lateral_convs.0.conv.bias'], None, 'Shared2FCBBoxHead'),
        (['backbone.conv1.weight', 'neck.lateral_convs.0.bn.weight'], SYNC_BN, 'Shared2FCBBoxHead'),
        (['neck.lateral_convs.0.bn.weight', 'roi_head.bbox_head.shared_convs.0.bn.weight'], SYNC_BN,
         'Shared4Conv1FCBBoxHead'),
    ],
)  # fmt: skip
def test_only_what_the_weights_have_changes_the_detector(pair, names, norm, head):
    detector = pair('mask_rcnn/mask-rcnn_r50_fpn_1x_coco').detector
    adapted = ChildConfig(
        pair('mask_rcnn/mask-rcnn_r50_fpn_1x_coco').base,
        detector,
        finetune_changes(detector, 'weights.pth', names),
    ).load()
    assert adapted.model.neck.get('norm_cfg') == norm
    assert adapted.model.roi_head.bbox_head.type == head


def test_weights_that_say_how_they_were_trained_are_believed(pair):
    """A Caffe ResNet on BGR stays one for weights of its kind."""
    detector = pair('faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco').detector
    preprocessor = detector.model.data_preprocessor
    trained = dict(channel_order='BGR', mean=preprocessor.mean, std=preprocessor.std)
    about_input = ('model.data_preprocessor', 'model.backbone.style')
    for meta, paths in (
        (dict(input=trained, backbone=dict(style='caffe')), []),
        (dict(input=trained), ['style']),
        ({}, ['bgr_to_rgb', 'mean', 'std', 'style']),
    ):
        changes = finetune_changes(detector, 'weights.pth', meta=meta)
        changed = [change.path for change in changes if change.path.startswith(about_input)]
        assert sorted(path.split('.')[-1] for path in changed) == paths


def test_batch_norm_in_the_weights_replaces_group_norm(pair):
    """Nothing of the replaced norm stays behind: MMEngine would merge them."""
    detector = pair('gn/mask-rcnn_r50_fpn_gn-all_2x_coco').detector
    names = [
        f'{part}.0.bn.weight' for part in ('neck.lateral_convs', 'roi_head.bbox_head.shared_convs')
    ]
    changes = finetune_changes(detector, 'weights.pth', names)
    model = (
        ChildConfig(pair('gn/mask-rcnn_r50_fpn_gn-all_2x_coco').base, detector, changes)
        .load()
        .model
    )
    assert model.neck.norm_cfg == SYNC_BN
    assert model.roi_head.bbox_head.norm_cfg == SYNC_BN


def test_transformers_are_trained_by_adamw(pair):
    """No decay of norms, biases and tables of positions; the rate falls to zero; no stochastic depth."""
    from mmengine.optim import build_optim_wrapper

    cfg = pair('swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco').pretrain.load()
    init_default_scope('mcl_mm')
    model = MODELS.build(cfg.model)
    settings = dict(cfg.optim_wrapper, type='OptimWrapper')
    settings.pop('loss_scale')
    optimizer = build_optim_wrapper(model, settings).optimizer
    assert type(optimizer) is torch.optim.AdamW
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for p in group['params']:
            spared = p.dim() == 1 or 'position' in names[id(p)]
            assert group['weight_decay'] == (0 if spared else 0.1), names[id(p)]
            assert group['lr'] == 2.4e-3
    assert cfg.model.backbone.drop_path_rate == 0
    assert cfg.param_scheduler[1].eta_min == 0
    assert cfg.param_scheduler[1].T_max == 100


def test_resnets_are_trained_as_published(pair):
    recipe = Config.fromfile(RECIPE)
    for name in ('mask_rcnn/mask-rcnn_r101_fpn_1x_coco', 'retinanet/retinanet_r50_fpn_1x_coco'):
        cfg = pair(name).pretrain.load()
        assert cfg.optim_wrapper == recipe.optim_wrapper
        assert cfg.param_scheduler == recipe.param_scheduler
        assert cfg.model.backbone.init_cfg == recipe.model.backbone.init_cfg


def test_a_backbone_that_takes_no_list_of_initialisations_has_its_own(tmp_path):
    base = make_config(tmp_path, "_base_ = 'mmdet::detectors/cascade-rcnn_r50-sac_1x_coco.py'\n")
    backbone = Pair(base).pretrain.load().model.backbone
    assert backbone.type == 'mmdet.DetectoRS_ResNet'
    assert backbone.get('init_cfg') is None
    MODELS.build(backbone)


def test_backbones_without_pyramid_are_refused(tmp_path):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        'model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))\n',
    )
    with pytest.raises(NoPyramidError, match=r'ResNet .*\[4, 8, 16, 16\], .* 4, 8, 16 and 32'):
        Pair(base)


def test_weight_standardisation_stays_in_the_backbone(tmp_path):
    """Pyramid and box head compute what they were trained for: plain convs."""
    ws = "dict(type='ConvWS')"
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
        f'model = dict(backbone=dict(conv_cfg={ws}), neck=dict(conv_cfg={ws}), '
        f'roi_head=dict(bbox_head=dict(conv_cfg={ws})))\n',
    )
    configs = Pair(base)
    assert configs.adapted.model.backbone.conv_cfg == dict(type='ConvWS')
    assert configs.adapted.model.neck.conv_cfg is None
    assert configs.adapted.model.roi_head.bbox_head.conv_cfg is None
    assert configs.pretrain.load().model.backbone.conv_cfg == dict(type='ConvWS')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('x = 1\n', r'has no model: a config needs model=dict\(type=\.\.\.\)'),
        (f'_base_ = {RECIPE!r}\n', 'is a config of pre-training'),
        ('raise RuntimeError("nothing_like_this")\n', 'cannot be opened as a config: .*nothing_like_this'),
        ('model = dict(\n', 'cannot be opened as a config'),
        ("model = dict(type='RetinaNet', backbone=dict(type='Unheard'))\n",
         'no Unheard is registered: list its module under custom_imports'),
        ("_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
         'model = dict(backbone=dict(depth=77))\n', 'cannot be built: .*invalid depth 77'),
    ],
)  # fmt: skip
def test_bad_configs_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        Pair(make_config(tmp_path, text))


def test_lazy_config_is_told_what_to_do(tmp_path):
    make_config(tmp_path, 'model = dict(backbone=dict())\n', 'parent')
    base = make_config(
        tmp_path,
        'from mmengine.config import read_base\nwith read_base():\n    from .parent import *\n',
        'lazy',
    )
    with pytest.raises(ValueError, match=r'is written with read_base\(\) .* Write it out first'):
        load_detector(str(base))


@pytest.mark.parametrize(
    'value',
    [
        dict(a=1, b=[1.5, 'x', None, (1,), ()], c=dict(d=True)),
        {'not.a.name': dict(decay_mult=0.0), 'b': {}},
        [dict(name='a' * 60, other='b' * 60, third=[dict(deep='c' * 90)])],
    ],
)
def test_values_are_written_as_they_are(value):
    assert eval(as_code(value)) == value


def test_changes_inside_lists_keep_the_other_items(tmp_path):
    base = make_config(
        tmp_path, 'a = [dict(b=1, c=dict(d=1)), dict(b=2), 3]\nlong = dict(x=dict(y=1))\n'
    )
    child = ChildConfig(
        str(base),
        Config.fromfile(base),
        [
            Change('a.0.c', dict(e=2), 'one.'),
            Change('long.x', dict(z=2), 'one.'),
            Change('new.deep.key', 1, 'two.'),
        ],
    )
    assert child.load().to_dict() == dict(
        a=[dict(b=1, c=dict(e=2)), dict(b=2), 3], long=dict(x=dict(z=2)), new=dict(deep=dict(key=1))
    )
    assert child.reasons() == [
        '- a.0.c=dict(e=2), long.x=dict(z=2): one.',
        '- new.deep.key=1: two.',
    ]


def test_a_name_that_mmengine_cannot_read_becomes_a_path():
    """Its parser knows letters and digits; ``_base_`` of what is written has to be readable."""
    name = 'mmdet::gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py'
    base = base_of(name)
    assert base.endswith('configs/gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py')
    assert load_detector(base).model.backbone.conv_cfg.type == 'ConvWS'
    plain = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    assert base_of(plain) == plain
    with pytest.raises(FileNotFoundError, match=r'has no config gn\+ws/nothing.py'):
        base_of('mmdet::gn+ws/nothing.py')


def test_what_is_no_detector_is_said(tmp_path):
    base = make_config(
        tmp_path,
        "_base_ = 'mmdet::reid/reid_r50_8xb32-6e_mot15train80_test-mot15val20.py'\n",
    )
    with pytest.raises(ValueError, match='describes no detector: BaseReID is none'):
        load_detector(str(base))


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        (dict(type='Nothing'), '^RetinaNet cannot be built: no Nothing is registered: list its module'),
        (dict(type='FPN', in_channels=[8], out_channels=8, num_outs=1, end_level=7),
         "cannot be built: AssertionError at 'assert "),
    ],
)  # fmt: skip
def test_why_a_model_cannot_be_built_in_one_line(part, message):
    config = part
    if part['type'] == 'Nothing':  # deep inside
        config = load_detector('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py').model
        config.bbox_head.anchor_generator = part
    with pytest.raises(ValueError, match=message) as error:
        build(config, 'mmdet')
    assert '\n' not in str(error.value)


def test_a_teachers_weights_are_not_fetched():
    """Nobody looks at them here, and there may be no network."""
    cfg = load_detector('mmdet::lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py')
    teacher = cfg.model.pop('teacher_ckpt')
    assert teacher.startswith('http')
    config = dict(cfg.model, teacher_ckpt='/nowhere.pth')
    for part in (config, config['teacher_backbone'], config['backbone']):
        if 'depth' in part:
            part.update(depth=18, init_cfg=None)
    for neck in ('neck', 'teacher_neck'):
        config[neck]['in_channels'] = [64, 128, 256, 512]
    build(config, 'mmdet')


def test_a_backbone_of_three_stages_is_no_pyramid():
    """TridentNet's refuses a fourth, which a C4 detector has in its head."""
    base = 'mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py'
    with pytest.raises(NoPyramidError, match='TridentResNet has no fourth stage'):
        pretrain_changes(load_detector(base), Config.fromfile(RECIPE))
