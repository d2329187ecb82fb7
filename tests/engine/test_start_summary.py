"""The first screen says what a run is going to do; the log file has everything."""

import logging
import os
import re
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch.utils.data import DataLoader

from conftest import ROOT, SMALL, call_tool
from mcl_mm.engine.operation_counter import operation_counter
from mcl_mm.engine.quiet_start import QuietRunner, QuietStart
from mcl_mm.engine.run import train
from mcl_mm.engine.start_summary import StartSummaryHook, duration, view_sides
from mcl_mm.evaluation.cost import multiply_adds

NOISE = 'weight is skipped since its requires_grad=False'


class Tiny(BaseModel):
    """Says things, as libraries do."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2_500_000))

    def init_weights(self):
        from mmengine.logging import print_log

        print('creating index...')
        print_log('initialised by hand', 'current')
        print_log(NOISE, 'current', logging.WARNING)
        print_log('the disk is nearly full', 'current', logging.WARNING)
        warnings.warn('a function has another name now', stacklevel=1)

    def forward(self, inputs, mode):
        return dict(loss=(torch.stack(inputs).sum() * self.weight).mean())


@pytest.fixture
def make(tmp_path):
    def runner(count=4):
        return QuietRunner(
            Tiny(),
            str(tmp_path / 'work'),
            train_dataloader=DataLoader(
                [torch.ones(1)] * 4, batch_size=2, collate_fn=lambda batch: dict(inputs=batch)
            ),
            train_cfg=dict(by_epoch=True, max_epochs=count // 2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5), accumulative_counts=2),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            custom_hooks=[StartSummaryHook()],
            log_level='INFO',
            experiment_name='quiet',
        )

    return runner


@pytest.fixture(autouse=True)
def own_warnings():
    """Python's warnings go where they went before; runs of earlier tests have sent them to logs."""
    logging.captureWarnings(False)
    yield
    logging.captureWarnings(False)


def test_first_screen(make, capsys, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        make().train()
    screen = capsys.readouterr().out
    before, _, rest = screen.partition('This run:\n')
    assert before.count('\n') == 1  # and the beginning of the summary's own line
    assert 'the disk is nearly full' in before
    summary = dict(line.split(None, 1) for line in rest.splitlines()[:9])
    assert summary['data'] == '4 images'
    assert summary['network'] == 'Tiny (), 2.5 M parameters that learn'
    assert summary['batch'] == '2 images x 1 process(es) x 2 accumulated = 4 an update'
    assert summary['length'] == '2 epochs, 4 iterations'
    assert summary['begins'] == 'as the config initialises it'
    assert summary['optimiser'] == 'SGD, learning rate 0.5'
    assert summary['precision'].startswith('float32, on ')
    assert 'Epoch(train)' in rest
    for noise in (
        NOISE,
        'creating index',
        'System environment',
        'another name',
        'Hooks will be executed',
    ):
        assert noise not in screen
    log = summary['log']
    assert log.startswith(str(tmp_path / 'work'))
    with open(log) as file:
        text = file.read()
    for line in (
        NOISE,
        'creating index...',
        'initialised by hand',
        'System environment',
        'another name',
        'This run:',
    ):
        assert line in text


def test_a_missing_compiler_is_not_told(make, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv('PATH', str(tmp_path))
    make()
    assert 'not found' not in capfd.readouterr().err
    os.write(2, b'here again')
    assert capfd.readouterr().err == 'here again'
    monkeypatch.setattr(sys, 'stderr', None)  # as where it is closed
    make()


def test_the_screen_is_given_back_when_the_start_fails(make, monkeypatch):
    screen = sys.stdout
    monkeypatch.setattr(QuietRunner, 'dump_config', lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make()
    assert sys.stdout is screen


def test_what_passes():
    quiet = QuietStart()

    def passes(level, text):
        return quiet.filter(logging.LogRecord('', level, '', 0, text, (), None))

    for over in (False, True):
        quiet.over = over
        assert passes(logging.INFO, 'news') == over
        assert passes(logging.WARNING, 'full disk')
        assert not passes(logging.WARNING, NOISE)
        assert passes(logging.ERROR, f'fault, {NOISE}')


def test_time_to_go_is_said_once(monkeypatch):
    clock, said = [0.0], []
    monkeypatch.setattr('mcl_mm.engine.start_summary.time.monotonic', lambda: clock[0])
    hook = StartSummaryHook()
    runner = SimpleNamespace(
        iter=5, max_iters=1006, cfg={}, logger=SimpleNamespace(info=said.append)
    )
    for runner.iter in range(5, 40):
        hook.before_train_iter(runner, 0)
        clock[0] += 1000 if runner.iter == 5 else 10  # the first one waits for workers
        hook.after_train_iter(runner, 0)
    # A minute is over after six iterations of ten seconds; then 1006 - 12 are left.
    (text,) = said
    assert text == f'At the speed of the first minute: {994 * 10 / 3600:.1f} hours to go.'


def test_cost_is_what_the_first_step_computes(image_folder, monkeypatch, tmp_path):
    """As :func:`multiply_adds` counts it from the config."""
    config = ROOT / 'configs/quickstart/pretrain.py'
    data = f'train_dataloader.dataset.data_root={image_folder}'
    options = ['--cfg-options', data, *SMALL[:-1]]  # without its log level
    call_tool(monkeypatch, 'train', config, '--work-dir', tmp_path / 'run', *options)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    said = [line for line in log.read_text().splitlines() if 'G multiply-adds' in line]
    step, _ = multiply_adds(Config.fromfile(config).model, batch_size=4, side=64)
    (line,) = said
    (number,) = re.findall(r'([\d.]+) G multiply-adds an image, forward and backward', line)
    assert float(number) == pytest.approx(step / 1e9, rel=0.01)  # and the blur of the views


def test_a_count_ends_with_a_run_that_fails(make, monkeypatch):
    runner = make()
    monkeypatch.setattr(Tiny, 'forward', lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(runner)
    with operation_counter() as counter:
        pass
    assert counter.get_total_flops() == 0
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, StartSummaryHook)]
    torch.ones(2, 2) @ torch.ones(2, 2)
    assert hook.counter.get_total_flops() == 0


@pytest.mark.parametrize(
    ('hours', 'text'),
    [(30, '30.0 hours'), (1.5, '1.5 hours'), (1, '60 minute(s)'), (0.001, '1 minute(s)')],
)
def test_duration(hours, text):
    assert duration(hours) == text


@pytest.mark.parametrize(
    ('name', 'side'),
    [('mcl_r50_100e', 224), ('mcl_r50_100e_fast', 224), ('quickstart/pretrain', 64)],
)
def test_sides_of_recipes(name, side):
    assert set(view_sides(Config.fromfile(ROOT / f'configs/{name}.py'))) == {side}


def test_detectors_have_no_sheets():
    cfg = Config.fromfile(ROOT / 'configs/transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py')
    assert list(view_sides(cfg)) == []
