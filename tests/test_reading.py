"""Settings of a command line find their place; ``tests/cli/test_odd_configs.py`` opens odd configs."""

import pytest
from mmengine.config import Config

from mcl_mm.reading import override


def some_config():
    return Config(
        dict(
            model=dict(batch_size=4, depth=18),
            custom_hooks=[dict(type='A', x=1)],
            log_level=3,
            length=7,
        ),
        cfg_text='#',
        filename='a.py',
    )


def test_settings_of_a_command_line_are_merged_as_mmengine_does():
    cfg, expected = some_config(), some_config()
    options = {
        'model.batch_size': 8,
        'custom_hooks.0.x': 2,
        'train_cfg.part': [1],
        'log_level': None,
    }
    override(cfg, options)
    expected.merge_from_dict(options)
    assert cfg.to_dict() == expected.to_dict()
    override(cfg, None)
    assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('model.batchsize', 'batchsize is no setting here. Did you mean batch_size'),
        ('models.batch_size', 'models is no setting here. Did you mean model'),
        ('custom_hooks.x', 'has no place in a.py: only a dict has settings inside'),
        ('custom_hooks.7.x', 'has no place in a.py'),
        ('model..depth', 'is no setting: write names with a dot between them'),
        ('', 'is no setting'),
        (
            'length',
            'no run reads length, so this would change nothing. Change length in a copy of a.py',
        ),
        ('depth', 'no run reads depth, so this would change nothing. Set model.depth'),
        ('elsewhere.at_all', 'no run reads elsewhere, so this would change nothing'),
    ],
)
def test_settings_without_a_place_are_refused_and_change_nothing(key, message):
    cfg = some_config()
    with pytest.raises(ValueError, match=message):
        override(cfg, {key: 1})
    assert cfg.to_dict() == some_config().to_dict()


def test_code_of_the_user_may_read_any_setting():
    cfg = some_config()
    cfg.custom_imports = dict(imports=['os'])
    override(cfg, {'length': 8})
    assert cfg.length == 8
