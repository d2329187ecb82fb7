"""Names, shapes, features and file layout are those of Detectron2."""

import io
import pickle
import pickletools

import numpy as np
import torch
import torch.nn.functional as F

from mcl_mm.transfer import to_detectron2
from mcl_mm.transfer.formats.detectron2 import write_pickle
from tiny_exports import IMAGE, same


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
