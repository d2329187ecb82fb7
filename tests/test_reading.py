"""Settings of a command line find their place; ``tests/cli/test_odd_configs.py`` opens odd configs."""

import pytest
from mmengine.config import Config

from mcl_mm.reading import override


def some_config():
    return Config(
        dict(train=dict(batch_size=4, depth=18), hooks=[dict(type='A', x=1)], num=3),
        cfg_text='#',
        filename='a.py',
    )


def test_settings_of_a_command_line_are_merged_as_mmengine_does():
    cfg, expected = some_config(), some_config()
    options = {'train.batch_size': 8, 'hooks.0.x': 2, 'new.part': [1], 'num': None}
    override(cfg, options)
    expected.merge_from_dict(options)
    assert cfg.to_dict() == expected.to_dict()
    override(cfg, None)
    assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('train.batchsize', 'batchsize is no setting here. Did you mean batch_size'),
        ('trains.batch_size', 'trains is no setting here. Did you mean train'),
        ('hooks.x', 'has no place in a.py: only a dict has settings inside'),
        ('hooks.7.x', 'has no place in a.py'),
        ('train..depth', 'is no setting: write names with a dot between them'),
        ('', 'is no setting'),
    ],
)
def test_settings_without_a_place_are_refused_and_change_nothing(key, message):
    cfg = some_config()
    with pytest.raises(ValueError, match=message):
        override(cfg, {key: 1})
    assert cfg.to_dict() == some_config().to_dict()
