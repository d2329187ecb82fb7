"""Weights under the names of other libraries: the same features come out there."""

import copy
import io
import pickle
import pickletools
from functools import partial

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from mmengine.config import Config
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import nn
from torchvision.models import detection

from conftest import ROOT
from mcl_mm.registry import MODELS
from mcl_mm.transfer import to_detectron2, to_mmdet, to_mmpretrain, to_timm, to_torchvision
from mcl_mm.transfer.formats.detectron2 import write_pickle
from mcl_mm.transfer.formats.rename import rename
from mcl_mm.transfer.run_config import read_input, read_model_part

IMAGE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def randomise(model):
    """Norm layers that do something, so that a lost or swapped one shows."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            low = 0.5 if name.endswith(('weight', 'running_var')) else 0.0
            tensor.copy_(torch.rand(tensor.shape, generator=generator) / 2 + low)
    model.eval()
    return model


@pytest.fixture(scope='module')
def resnet50():
    """The model of the paper."""
    model = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    model.update(type='mcl_mm.MCL')
    model.head.type, model.neck.type = 'mcl_mm.MultiLevelContrastiveHead', 'mcl_mm.MCLNeck'
    model.data_preprocessor.type = 'mcl_mm.MontageDataPreprocessor'
    return randomise(MODELS.build(model))


@pytest.fixture(scope='module')
def export50(resnet50):
    return to_mmdet(resnet50.state_dict())


def backbone_alone(**config):
    """A backbone, and its weights as an export has them."""
    backbone = randomise(MODELS.build(dict(out_indices=(0, 1, 2, 3), **config)))
    return backbone, {f'backbone.{name}': value for name, value in backbone.state_dict().items()}


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def first_four(head, cells):
    """The convs of a box head of torchvision."""
    return nn.Sequential(*list(head)[:4])(cells)


@torch.no_grad()
def test_torchvision_mask_rcnn(resnet50, export50):
    renamed = to_torchvision(export50, dict(style='pytorch'))
    assert len(renamed.state_dict) == len(export50)
    assert renamed.left == {}
    detector = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    missing, unexpected = detector.load_state_dict(renamed.state_dict, strict=False)
    assert unexpected == []
    # 0 to 3 are the convs of the box head, 5 its fully connected layer.
    random = ('rpn.', 'roi_heads.box_head.5.', 'roi_heads.box_predictor.', 'roi_heads.mask_')
    assert all(name.startswith(random) for name in missing)
    pyramid = detector.backbone(IMAGE)
    same(resnet50.extract_feat(IMAGE), [pyramid[str(level)] for level in range(4)])
    cells = torch.randn(3, 256, 7, 7)
    same([resnet50.neck.projector.convs(cells)], [first_four(detector.roi_heads.box_head, cells)])


@torch.no_grad()
def test_torchvision_plain_resnet_is_the_body(resnet50, export50):
    body = {
        name.removeprefix('backbone.body.'): value
        for name, value in to_torchvision(export50, {}).state_dict.items()
        if name.startswith('backbone.body.')
    }
    model = torchvision.models.resnet50(weights=None)
    missing, unexpected = model.load_state_dict(body, strict=False)
    assert (sorted(missing), unexpected) == (['fc.bias', 'fc.weight'], [])
    model.fc = nn.Identity()
    same([resnet50.backbone(IMAGE)[-1].mean((2, 3))], [model.eval()(IMAGE)])


@torch.no_grad()
def test_group_norm_and_other_widths(group_norm_config):
    """mmcv calls a GroupNorm ``gn``, torchvision calls whatever normalises ``bn``."""
    group_norm_config['backbone'].update(stem_channels=64, base_channels=64)
    group_norm_config['neck'].update(in_channels=[64, 128, 256, 512])
    ours = randomise(MODELS.build(group_norm_config))
    group_norm = partial(nn.GroupNorm, 4)
    body = torchvision.models.resnet18(weights=None, norm_layer=group_norm)
    body = detection.backbone_utils.BackboneWithFPN(
        body,
        {f'layer{i + 1}': str(i) for i in range(4)},
        [64, 128, 256, 512],
        8,
        norm_layer=group_norm,
    )
    head = detection.faster_rcnn.FastRCNNConvFCHead((8, 7, 7), [8] * 4, [16], group_norm)
    detector = detection.FasterRCNN(
        body, box_head=head, box_predictor=detection.faster_rcnn.FastRCNNPredictor(16, 2)
    ).eval()
    weights = to_torchvision(to_mmdet(ours.state_dict()), {}).state_dict
    assert detector.load_state_dict(weights, strict=False).unexpected_keys == []
    same(ours.extract_feat(IMAGE), list(detector.backbone(IMAGE).values())[:4])
    cells = torch.randn(3, 8, 7, 7)
    same([ours.neck.projector.convs(cells)], [first_four(head, cells)])


@torch.no_grad()
def test_timm_resnet50(resnet50, export50):
    renamed = to_timm(export50, dict(style='pytorch'))
    assert len(renamed.state_dict) + len(renamed.left) == len(export50)
    assert {name.split('.')[0] for name in renamed.left} == {'neck', 'roi_head'}
    model = timm.create_model('resnet50', num_classes=0, pretrained=False).eval()
    model.load_state_dict(renamed.state_dict, strict=True)
    same([resnet50.backbone(IMAGE)[-1]], [model.forward_features(IMAGE)])
    features = timm.create_model('resnet50', features_only=True, out_indices=(1, 2, 3, 4)).eval()
    features.load_state_dict(renamed.state_dict, strict=True)
    same(resnet50.backbone(IMAGE), features(IMAGE))


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('resnet18', dict(type='mmpretrain.ResNet', depth=18)),
        ('resnet18d', dict(type='mmpretrain.ResNetV1d', depth=18)),
        ('resnet50c', dict(type='mmpretrain.ResNetV1c', depth=50)),
        ('resnet50d', dict(type='mmpretrain.ResNetV1d', depth=50)),
        ('resnet50d', dict(type='mmdet.ResNetV1d', depth=50)),
        (
            'resnext50_32x4d',
            dict(type='mmpretrain.ResNeXt', depth=50, groups=32, width_per_group=4),
        ),
    ],
)
@torch.no_grad()
def test_timm_variants(name, config):
    backbone, weights = backbone_alone(**config)
    model = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    model.load_state_dict(to_timm(weights, config).state_dict, strict=True)
    same(backbone(IMAGE), model(IMAGE))


@torch.no_grad()
def test_timm_network_that_timm_built():
    config = dict(type='mmpretrain.TIMMBackbone', model_name='resnet10t', features_only=True)
    backbone, weights = backbone_alone(**config)
    model = timm.create_model('resnet10t', features_only=True, out_indices=(0, 1, 2, 3)).eval()
    model.load_state_dict(to_timm(weights, config).state_dict, strict=True)
    same(backbone(IMAGE), model(IMAGE))


@torch.no_grad()
def test_mmpretrain_classifier(resnet50, export50):
    renamed = to_mmpretrain(export50, dict(type='mmpretrain.ResNet'))
    assert set(renamed.state_dict) == {name for name in export50 if name.startswith('backbone.')}
    assert len(renamed.state_dict) + len(renamed.left) == len(export50)
    classifier = MMPRETRAIN_MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='ResNet', depth=50),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=2048),
        )
    ).eval()
    missing, unexpected = classifier.load_state_dict(renamed.state_dict, strict=False)
    assert unexpected == []
    assert sorted(missing) == ['head.fc.bias', 'head.fc.weight']
    pooled = resnet50.backbone(IMAGE)[-1].mean((2, 3))
    same([pooled], [classifier.extract_feat(IMAGE)[0]])


def detectron2_names():
    """Names and shapes of Detectron2's R50-FPN with norm in pyramid and box head.

    From its ResNet (``stem``, ``res2`` to ``res5``, ``shortcut``), FPN (``fpn_lateral2`` to 5,
    ``fpn_output2`` to 5) and FastRCNNConvFCHead (``conv1`` to 4): a conv has a ``weight``, and its norm
    layer is its child ``norm``.
    """
    convs = {'backbone.bottom_up.stem.conv1': (64, 3, 7, 7)}
    channels = 64
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3)):
        width = 64 * 2 ** (stage - 2)
        for block in range(blocks):
            name = f'backbone.bottom_up.res{stage}.{block}'
            if block == 0:
                convs[f'{name}.shortcut'] = (4 * width, channels, 1, 1)
            convs[f'{name}.conv1'] = (width, channels, 1, 1)
            convs[f'{name}.conv2'] = (width, width, 3, 3)
            convs[f'{name}.conv3'] = (4 * width, width, 1, 1)
            channels = 4 * width
        convs[f'backbone.fpn_lateral{stage}'] = (256, channels, 1, 1)
        convs[f'backbone.fpn_output{stage}'] = (256, 256, 3, 3)
    for number in (1, 2, 3, 4):
        convs[f'roi_heads.box_head.conv{number}'] = (256, 256, 3, 3)
    shapes = {f'{name}.weight': shape for name, shape in convs.items()}
    for name, shape in convs.items():
        for tensor in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{name}.norm.{tensor}'] = shape[:1]
    return shapes


def test_detectron2_names_and_shapes(export50):
    renamed = to_detectron2(export50, dict(style='pytorch'))
    shapes = {name: tuple(value.shape) for name, value in renamed.state_dict.items()}
    assert shapes == detectron2_names()
    assert all(name.endswith('.num_batches_tracked') for name in renamed.left)
    assert len(renamed.state_dict) + len(renamed.left) == len(export50)
    same_tensor = {
        'backbone.bottom_up.stem.conv1.norm.bias': 'backbone.bn1.bias',
        'backbone.bottom_up.res3.0.shortcut.weight': 'backbone.layer2.0.downsample.0.weight',
        'backbone.bottom_up.res4.0.shortcut.norm.bias': 'backbone.layer3.0.downsample.1.bias',
        'backbone.bottom_up.res5.2.conv3.norm.running_var': 'backbone.layer4.2.bn3.running_var',
        'backbone.bottom_up.res2.1.conv2.weight': 'backbone.layer1.1.conv2.weight',
        'backbone.fpn_lateral3.weight': 'neck.lateral_convs.1.conv.weight',
        'backbone.fpn_output5.norm.running_mean': 'neck.fpn_convs.3.bn.running_mean',
        'roi_heads.box_head.conv4.weight': 'roi_head.bbox_head.shared_convs.3.conv.weight',
        'roi_heads.box_head.conv1.norm.weight': 'roi_head.bbox_head.shared_convs.0.bn.weight',
    }
    for theirs, ours in same_tensor.items():
        assert torch.equal(renamed.state_dict[theirs], export50[ours])


def detectron2_pyramid(weights, image):
    """What Detectron2's ResNet-50 and FPN compute (``STRIDE_IN_1X1: False``), from its documentation."""

    def conv(name, x, stride=1):
        weight, norm = weights[f'{name}.weight'], f'{name}.norm'
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        statistics = (weights[f'{norm}.running_mean'], weights[f'{norm}.running_var'])
        return F.batch_norm(x, *statistics, weights[f'{norm}.weight'], weights[f'{norm}.bias'])

    x = F.max_pool2d(F.relu(conv('backbone.bottom_up.stem.conv1', image, 2)), 3, 2, 1)
    stages = []
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3)):
        for block in range(blocks):
            name = f'backbone.bottom_up.res{stage}.{block}'
            stride = 2 if stage > 2 and block == 0 else 1
            shortcut = conv(f'{name}.shortcut', x, stride) if block == 0 else x
            x = F.relu(conv(f'{name}.conv1', x))
            x = F.relu(conv(f'{name}.conv2', x, stride))
            x = F.relu(conv(f'{name}.conv3', x) + shortcut)
        stages.append(x)
    pyramid, merged = [], 0
    for stage in (5, 4, 3, 2):
        merged = merged + conv(f'backbone.fpn_lateral{stage}', stages[stage - 2])
        pyramid.insert(0, conv(f'backbone.fpn_output{stage}', merged))
        merged = F.interpolate(merged, scale_factor=2, mode='nearest')
    return pyramid


@torch.no_grad()
def test_detectron2_features(resnet50, export50):
    weights = to_detectron2(export50, {}).state_dict
    same(resnet50.extract_feat(IMAGE), detectron2_pyramid(weights, IMAGE))


def test_detectron2_pickle():
    """As its model zoo: NumPy arrays under ``model``; readable by every version of NumPy."""
    weights = {'a.weight': torch.randn(2, 3), 'a.bias': torch.randn(3), 'b': torch.tensor(4)}
    file = io.BytesIO()
    write_pickle(file, weights, dict(epoch=3))
    content = pickle.loads(file.getvalue(), encoding='latin1')
    assert content['__author__'] == 'mcl_mm'
    assert content['matching_heuristics'] is False
    assert content['meta'] == dict(epoch=3)
    for name, value in weights.items():
        array = content['model'][name]
        assert type(array) is np.ndarray
        assert array.flags.writeable
        assert torch.equal(torch.from_numpy(array), value)
    strings = [argument for _, argument, _ in pickletools.genops(file.getvalue())]
    assert not [s for s in strings if isinstance(s, str) and 'core' in s]


ARCH = dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4)
NO_RESNETS = [
    dict(type='mmpretrain.SwinTransformer', arch=ARCH),
    dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1] * 4, channels=[8] * 4)),
]
DEEP_STEM, POOLED_SHORTCUT, DEFORMABLE = [
    dict(type='mmpretrain.ResNetV1d', depth=18),
    dict(type='mmpretrain.ResNet', depth=18, avg_down=True),
    dict(
        type='mmdet.ResNet',
        depth=50,
        base_channels=4,
        dcn=dict(type='DCN', deform_groups=1),
        stage_with_dcn=(False, False, False, True),
    ),
]


@pytest.mark.parametrize(
    ('convert', 'config'),
    [(to_timm, config) for config in [*NO_RESNETS, DEFORMABLE]]
    + [
        (convert, config)
        for convert in (to_torchvision, to_detectron2)
        for config in [*NO_RESNETS, DEEP_STEM, POOLED_SHORTCUT, DEFORMABLE]
    ],
)
def test_backbone_without_a_place_is_refused(convert, config):
    _, weights = backbone_alone(**config)
    with pytest.raises(ValueError, match=r'has no place for backbone\..*--to mmdet'):
        convert(weights, config)
    if config is not DEFORMABLE:
        assert to_mmpretrain(weights, config).state_dict.keys() == weights.keys()


def test_caffe_style_is_refused_where_it_computes_something_else(export50):
    for convert in (to_torchvision, to_timm):
        with pytest.raises(ValueError, match="style='caffe'"):
            convert(export50, dict(type='mmpretrain.ResNet', style='caffe'))
    assert to_detectron2(export50, dict(style='caffe')).state_dict


@pytest.mark.parametrize(
    'config', [DEFORMABLE, dict(type='mmdet.ResNetV1d', depth=50, base_channels=4)]
)
def test_mmdet_backbone_with_other_names_is_refused_by_mmpretrain(config):
    _, weights = backbone_alone(**config)
    with pytest.raises(ValueError, match='MMPretrain has no place for backbone'):
        to_mmpretrain(weights, config)


def test_mmdet_resnet_is_mmpretrains():
    config = dict(type='mmdet.ResNet', depth=50, base_channels=4)
    _, weights = backbone_alone(**config)
    ours, _ = backbone_alone(type='mmpretrain.ResNet', depth=50, stem_channels=64, base_channels=4)
    renamed = to_mmpretrain(weights, config).state_dict
    assert {k.removeprefix('backbone.') for k in renamed} == ours.state_dict().keys()


def test_first_rule_counts_and_reasons_come_first():
    weights = {'a.1': torch.ones(1), 'b.1': torch.ones(2)}
    renamed = rename(weights, 'X', [(r'a\.(\d)', r'x.\1'), (r'.+', 'y')], [(r'b\..+', 'no use')])
    assert list(renamed.state_dict) == ['x.1']
    assert renamed.left == {'b.1': 'no use'}
    with pytest.raises(ValueError, match='X has no place for b.1'):
        rename(weights, 'X', [(r'a\.(\d)', r'x.\1')])


@pytest.mark.parametrize('name', ['mcl_r50_100e.py', 'quickstart/pretrain.py'])
def test_model_is_read_from_the_text_of_a_config(name):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    backbone = read_model_part(cfg.pretty_text, 'backbone')
    assert backbone == copy.deepcopy(cfg.model.backbone).to_dict()
    assert read_input(cfg.pretty_text) == dict(
        channel_order='RGB', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    )


@pytest.mark.parametrize(
    'config',
    [
        '',
        'model = None',
        'model = dict(',
        'model = dict(neck=dict(a=1))',
        'model = dict(backbone="resnet")',
        'model = dict(backbone=dict(a=__import__("os").mkdir("{made}")))',
        'model = dict(backbone=dict(**{{"a": open("{made}", "w")}}))',
        '__import__("os").mkdir("{made}")\nmodel = dict(backbone=[1])',
    ],
)
def test_config_text_is_never_run_and_nothing_is_guessed(tmp_path, config):
    made = tmp_path / 'made'
    assert read_model_part(config.format(made=made), 'backbone') is None
    assert read_input(config.format(made=made)) is None
    assert not made.exists()
