"""A model is read from the text of a config, which is never run."""

import copy

import pytest
from mmengine.config import Config

from conftest import ROOT
from mcl_mm.transfer.run_config import read_input, read_model_part


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
