"""Checkpoints of the authors' code, and files that are something else."""

import json

import pytest
import torch
import torchvision

from conftest import ROOT
from mcl_mm.transfer import to_mmdet
from mcl_mm.transfer.formats.official import convert_official, identify, rename_official

NAMES = json.loads((ROOT / 'tests/data/reference.json').read_text())['state_dict_keys']


@pytest.fixture()
def official():
    """A checkpoint with the authors' names; both copies of the backbone are the same."""
    weights = {name: torch.rand(shape) for name, shape in NAMES}
    for name in weights:
        if name.startswith('backbone.'):
            weights[name] = weights[f'encoder_q.0.{name.removeprefix("backbone.")}']
    return weights


def test_every_name_has_a_place_of_its_own(official):
    converted = convert_official(official)
    copies = [name for name in official if name.startswith('backbone.')]
    assert len(converted.state_dict) == len(official) - len(copies)
    assert converted.left == converted.missing == []
    mapped = {
        'encoder_q.0.layer4.1.bn2.bias': 'backbone.layer4.1.bn2.bias',
        'encoder_k.1.fpn_convs.3.bn.weight': 'target.neck.fpn.fpn_convs.3.bn.weight',
        'encoder_q.2.mlp.4.running_var': 'neck.projector.mlp.bn1.running_var',
        'head.predictor.2.mlp.1.bias': 'head.predictors.2.bn0.bias',
    }
    for theirs, ours in mapped.items():
        assert torch.equal(converted.state_dict[ours], official[theirs])
    to_mmdet(converted.state_dict)


def test_unknown_names_are_listed_and_missing_parts_named(official):
    official = {k: v for k, v in official.items() if not k.startswith(('encoder_k', 'head'))}
    converted = convert_official(dict(official, queue=torch.ones(1)))
    assert converted.left == ['queue']
    assert {name.split('.')[0] for name in converted.missing} == {'head', 'target'}
    assert 'neck.projector' in converted.table()


def test_missing_names_are_counted(official):
    gone = [
        name
        for name in official
        if name.startswith(('head.predictor.3', 'encoder_q.1.fpn_convs.2', 'encoder_k.0.conv1'))
    ]
    converted = convert_official({k: v for k, v in official.items() if k not in gone})
    assert sorted(converted.missing) == sorted(map(rename_official, gone))
    assert len(gone) > 10


def test_backbone_alone(official):
    backbone = {k: v for k, v in official.items() if k.startswith('backbone.')}
    converted = convert_official(backbone)
    assert converted.state_dict.keys() == backbone.keys()
    assert converted.renamed == []
    assert 'neck.projector.convs.0.conv.weight' in converted.missing


def test_differing_copies_are_refused(official):
    official['backbone.conv1.weight'] = official['backbone.conv1.weight'] + 1
    with pytest.raises(ValueError, match='two copies of backbone.conv1.weight'):
        convert_official(official)


def test_torchvision_is_refused_by_name():
    with pytest.raises(ValueError, match='those of torchvision or timm ResNet'):
        convert_official(torchvision.models.resnet18().state_dict())


@pytest.mark.parametrize(
    ('names', 'kind'),
    [
        (['encoder_q.conv1.weight', 'encoder_q.fc.0.weight', 'queue'], 'MoCo'),
        (['base_encoder.conv1.weight', 'momentum_encoder.conv1.weight'], 'MoCo v3'),
        (['stem.conv1.weight', 'res2.0.conv1.weight'], 'Detectron2'),
        (['backbone.bottom_up.res2.0.conv1.weight'], 'Detectron2'),
        (['cls_token', 'blocks.0.attn.qkv.weight'], 'vision transformer'),
        (['backbone.conv1.weight', 'neck.fc.weight'], 'mcl_mm export or MMDetection detector'),
        (['backbone.conv1.weight', 'head.fc.weight'], 'OpenMMLab backbone or classifier'),
        (['neck.projector.a', 'head.predictors.a', 'target.a'], 'mcl_mm pre-training'),
        (['a', 'b'], 'unknown'),
    ],
)
def test_identify(names, kind):
    assert identify(names) == kind
