"""Networks whose exports can be told apart, for tests of other libraries' names."""

from pathlib import Path

import torch
from mmengine.config import Config

from mcl_mm.registry import MODELS

ROOT = Path(__file__).parents[1]
IMAGE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
DEFORMABLE = dict(
    type='mmdet.ResNet',
    depth=50,
    base_channels=4,
    dcn=dict(type='DCN', deform_groups=1),
    stage_with_dcn=(False, False, False, True),
)


def randomise(model):
    """Norm layers that do something, so that a lost or swapped one shows."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            low = 0.5 if name.endswith(('weight', 'running_var')) else 0.0
            tensor.copy_(torch.rand(tensor.shape, generator=generator) / 2 + low)
    model.eval()
    return model


def published_model():
    """The model of the paper."""
    model = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    model.update(type='mcl_mm.MCL')
    model.head.type, model.neck.type = 'mcl_mm.MultiLevelContrastiveHead', 'mcl_mm.MCLNeck'
    model.data_preprocessor.type = 'mcl_mm.MontageDataPreprocessor'
    return randomise(MODELS.build(model))


def backbone_alone(**config):
    """A backbone, and its weights as an export has them."""
    backbone = randomise(MODELS.build(dict(out_indices=(0, 1, 2, 3), **config)))
    return backbone, {f'backbone.{name}': value for name, value in backbone.state_dict().items()}


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
