"""What ends a run is told in one sentence."""

import signal
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from yapf.yapflib import yapf_api

from conftest import draw_images
from mcl_mm.config import type_name
from mcl_mm.engine.follow_config import ResumeError
from mcl_mm.engine.run import (
    RunError,
    check_folders,
    format_once,
    load_config,
    log_locally,
    scale_learning_rate,
    start,
    train,
    use_mixed_precision,
)
from mcl_mm.engine.stop_signal import SIGNALS
from mcl_mm.transfer.detector import child_config
from tiny_runs import write_config


def runner_that(error):
    """As much of a Runner as ending needs."""

    def fail():
        raise error

    return SimpleNamespace(train=fail, end_quiet_start=lambda: None, call_hook=lambda name: None)


@pytest.mark.parametrize(
    ('error', 'sentence'),
    [
        (OSError(), 'OSError. Go on from the last checkpoint with --resume'),
        (OSError(28, 'No space left'), '[Errno 28] No space left. Go on'),
        (OSError('Traceback:\n  File\nOSError: disk away'), 'OSError: disk away. Go on'),
        (FloatingPointError('not finite'), 'FloatingPointError: not finite'),
        (ResumeError('shorter'), 'ResumeError: shorter'),
        (RuntimeError('DataLoader worker (pid 1) was killed.'), 'RuntimeError: DataLoader worker'),
    ],
)
def test_one_sentence(error, sentence):
    with pytest.raises(RunError) as ended:
        train(runner_that(error))
    assert str(ended.value).startswith(sentence)


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match='shapes differ'):
        train(runner_that(RuntimeError('shapes differ')))


def test_signals_are_given_back_after_a_fault(tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    draw_images(tmp_path / 'images', 4)
    config = write_config(tmp_path, tmp_path / 'images', by_epoch=False)
    runner = start(load_config(str(config), work_dir=str(tmp_path / 'work')))

    def fail(*args, **kwargs):
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise RuntimeError('shapes differ')

    runner.model.train_step = fail
    with pytest.raises(RuntimeError, match='shapes differ'):
        train(runner)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_checkpoint_that_is_not_there():
    with pytest.raises(FileNotFoundError, match='no checkpoint to resume from at /nowhere.pth'):
        start(Config(), '/nowhere.pth')


@pytest.mark.parametrize(
    ('settings', 'scale'),
    [
        ({}, 'dynamic'),
        (dict(dtype='float16'), 'dynamic'),
        (dict(dtype='bfloat16'), dict(enabled=False)),
        (dict(dtype='bfloat16', loss_scale='dynamic'), 'dynamic'),
    ],
)
def test_mixed_precision_scales_what_needs_it(settings, scale):
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper', **settings)))
    use_mixed_precision(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ('AmpOptimWrapper', scale)


@pytest.mark.parametrize('inside', ['', 'work'])
def test_checkpoints_that_could_not_be_written(tmp_path, inside):
    """The folder of checkpoints, and the one of the run's name in it, are looked at before training."""
    out_dir = tmp_path / 'out'
    cfg = Config(
        dict(
            work_dir=str(tmp_path / 'runs/work/'),
            default_hooks=dict(checkpoint=dict(out_dir=str(out_dir))),
        )
    )
    check_folders(cfg)
    (out_dir / inside).parent.mkdir(exist_ok=True)
    (out_dir / inside).write_text('in the way')
    with pytest.raises(NotADirectoryError, match=f'cannot write into {out_dir}/work: .* is a file'):
        start(cfg)
    cfg.default_hooks.checkpoint.out_dir = 's3://bucket'
    check_folders(cfg)


def test_command_line(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('model = dict(b=1)\nauto_scale_lr = dict(enable=False)\n')
    cfg = load_config(str(path), options={'model.b': 2}, launcher='pytorch')
    assert (cfg.model.b, cfg.launcher, cfg.work_dir) == (2, 'pytorch', 'work_dirs/mine')
    assert load_config(str(path), work_dir='there').work_dir == 'there'
    with pytest.raises(ValueError, match='--auto-scale-lr needs .* in .*mine.py'):
        scale_learning_rate(cfg)


@pytest.mark.parametrize(
    ('visualizer', 'expected'),
    [
        (None, ['LocalVisBackend']),
        (dict(type='Visualizer'), ['LocalVisBackend']),
        (dict(type='Visualizer', vis_backends=None), ['LocalVisBackend']),
        (
            dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')]),
            ['TensorboardVisBackend', 'LocalVisBackend'],
        ),
        (
            dict(type='Visualizer', vis_backends=[dict(type='mmengine.LocalVisBackend')]),
            ['LocalVisBackend'],
        ),
    ],
)
def test_every_run_leaves_a_log_that_can_be_read(visualizer, expected):
    cfg = Config(dict(visualizer=visualizer))
    log_locally(cfg)
    assert list(map(type_name, cfg.visualizer.vis_backends)) == expected


def test_a_run_formats_each_text_of_its_config_once(monkeypatch):
    formatted = []

    def format_code(text, **settings):
        formatted.append(text)
        return child_config.FormatCode(text, **settings)

    monkeypatch.setattr(yapf_api, 'FormatCode', format_code)
    one, other = Config(dict(a=dict(b=[1, 2]))), Config(dict(a=3))
    expected = [config.pretty_text for config in (one, one, other)]
    formatted.clear()
    format_once.__wrapped__()
    assert [config.pretty_text for config in (one, one, other)] == expected
    assert len(formatted) == 2
    assert expected[0] == 'a = dict(b=[\n    1,\n    2,\n])\n'
