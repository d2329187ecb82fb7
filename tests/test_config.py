"""Small questions to configs."""

import pytest
from mmengine.config import ConfigDict

from mcl_mm.config import type_name
from mcl_mm.engine import TransferHook


@pytest.mark.parametrize(
    ('part', 'name'),
    [
        (dict(type='MCL'), 'MCL'),
        (ConfigDict(type='mcl_mm.MCL'), 'MCL'),
        (dict(type=TransferHook), 'TransferHook'),
        ('mmdet.FPN', 'FPN'),
        (TransferHook, 'TransferHook'),
        ({}, ''),
        (dict(type=None), ''),
    ],
)
def test_type_name(part, name):
    assert type_name(part) == name
