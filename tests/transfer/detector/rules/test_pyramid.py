"""The norm of a pyramid is that of the weights."""

import re

import pytest

from conftest import tiny_detector
from tiny_detectors import FASTER_RCNN, deeper, examine, follow


@pytest.mark.parametrize('own', [None, dict(type='BN')])
def test_group_norm_that_the_detector_has_not(export, own):
    weights = {
        re.sub(r'^(neck\..*)\.bn\.', r'\1.gn.', name): value
        for name, value in export['state_dict'].items()
        if not (name.startswith('neck.') and re.search('running|num_batches', name))
    }
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.neck.norm_cfg = own
    found = [
        f for f in examine(cfg, dict(export, state_dict=weights)).traps if f.id == 'missing-norm'
    ]
    assert found[0].text.startswith('in the weights a norm follows every conv of the pyramid')
    assert "type='GN'" in found[0].fix


def test_group_norm_gives_way_whole(export):
    """Its number of groups would be no setting of the batch norm that takes its place."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.neck.norm_cfg = dict(type='GN', num_groups=2)
    (trap,) = [t for t in examine(cfg, export).traps if t.id == 'missing-norm']
    assert examine(follow(cfg, trap.fix), export).traps == []
