"""Runs of a comparison: their configs, what is refused before the first, what is made of results."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from conftest import ROOT
from mcl_mm.engine import TransferHook
from mcl_mm.evaluation import runs
from mcl_mm.evaluation.ledger import Record, read_ledger
from mcl_mm.evaluation.runs import (
    Run,
    check_evaluates,
    check_room,
    train,
    write_config,
)
from mcl_mm.evaluation.starts import Start, start_from

RETINANET = ROOT / 'configs/quickstart/retinanet_bccd.py'


def test_random_is_random(tmp_path):
    """No weights from elsewhere, under whatever key a config has them; how layers are drawn stays."""
    cfg = Config.fromfile(RETINANET)
    file = dict(type='Pretrained', checkpoint='elsewhere.pth')
    drawn = dict(type='Xavier', layer='Conv2d', distribution='uniform')
    cfg.model.init_cfg = file
    cfg.model.pretrained = 'elsewhere.pth'
    cfg.model.backbone.update(init_cfg=[drawn, file], pretrained='elsewhere.pth')
    cfg.model.neck.init_cfg = file
    cfg.custom_hooks = [dict(type=TransferHook), dict(type='mcl_mm.TransferHook')]
    for parts in ((), ('backbone',)):
        start = Start('cut', 'export.pth', parts)
        write_config(start_from(cfg, start), tmp_path / 'config.py', 0)
        text = (tmp_path / 'config.py').read_text()
        assert 'elsewhere' not in text
        assert text.count('TransferHook') == text.count('export.pth') == len(parts)
    cfg.model.neck.init_cfg = drawn
    write_config(start_from(cfg, Start()), tmp_path / 'config.py', 0)
    assert Config.fromfile(tmp_path / 'config.py').model.neck.init_cfg == drawn


def test_every_run_has_a_seed_of_its_own(tmp_path):
    cfg = Config.fromfile(RETINANET)
    write_config(cfg, tmp_path / 'config.py', 3)
    assert Config.fromfile(tmp_path / 'config.py').randomness.seed == 3
    assert cfg.get('randomness', {}).get('seed') != 3


def test_a_run_that_ends_without_an_evaluation_is_refused():
    cfg = Config.fromfile(RETINANET)
    check_evaluates(cfg)
    cfg.train_cfg.val_begin = 99
    with pytest.raises(ValueError, match='never evaluated: train_cfg.val_begin'):
        check_evaluates(cfg)
    cfg.val_evaluator = cfg.val_cfg = None
    with pytest.raises(ValueError, match='no val_evaluator and no val_cfg'):
        check_evaluates(cfg)


def test_a_disk_without_room_is_refused(tmp_path):
    check_room(tmp_path / 'out', 1)
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OSError, match='take at least .* GiB, and .* left'):
        check_room(tmp_path / 'out', 2 * free)


@pytest.fixture
def calls(monkeypatch):
    """In the place of training: what was called, and lines of a log that end as told."""
    made = SimpleNamespace(commands=[], code=0)

    def call(*command, stdout, **_):
        made.commands.append(command)
        folder = runs.Path(command[command.index('--work-dir') + 1])
        logs = folder / str(len(made.commands)) / 'vis_data'
        logs.mkdir(parents=True)
        (logs / 'scalars.json').write_text(json.dumps(dict(step=1, time=1.0, ap=0.5)))
        return SimpleNamespace(returncode=made.code)

    monkeypatch.setattr(runs, 'call', call)
    return made


def make_run(folder, epochs=2, **facts):
    folder.mkdir(exist_ok=True)
    cfg = Config(dict(train_cfg=dict(max_epochs=epochs), val_cfg=dict()))
    write_config(cfg, folder / 'config.py', 0)
    entry = dict(kind='pretrain', method='m', config='c', seed=0, train=dict(images=1), images_seen=1,
                 processes=1, command='', multiply_adds=1.0, **facts)  # fmt: skip
    return Run(folder, record=Record(folder.parent / 'runs.jsonl', entry) if facts else None)


def test_a_result_is_of_its_data_config_and_processes(tmp_path, calls):
    """Labels that were mended in place are other data by the ledger, whatever the folder holds."""
    first = make_run(tmp_path / 'run', identity='old labels')
    assert train(first) == train(first) == dict(ap=0.5)
    assert len(calls.commands) == 1
    train(make_run(tmp_path / 'run', identity='new labels'))
    train(first._replace(gpus=2))
    assert len(calls.commands) == 2  # by the ledger, the first is known
    train(first._replace(gpus=2, record=None))
    train(make_run(tmp_path / 'run', epochs=3))
    assert len(calls.commands) == 4
    assert [entry['identity'] for entry in read_ledger(tmp_path / 'runs.jsonl')] == [
        'old labels',
        'new labels',
    ]


def test_a_result_without_a_ledger_is_written_down_later(tmp_path, calls):
    train(make_run(tmp_path / 'run'))
    train(make_run(tmp_path / 'run', identity='x'))
    assert len(calls.commands) == len(read_ledger(tmp_path / 'runs.jsonl')) == 1


@pytest.mark.parametrize(('saved', 'goes_on'), [('epoch_1.pth', True), ('epoch_2.pth', False)])
def test_an_interrupted_run_goes_on(tmp_path, calls, saved, goes_on):
    """With what it has logged and saved, unless nothing but its evaluation was left."""
    run = make_run(tmp_path / 'run', identity='x')
    calls.code = 75
    with pytest.raises(RuntimeError, match='exit code 75'):
        train(run)
    for name in (saved, 'last_checkpoint'):
        (run.folder / name).write_text(str(run.folder / saved))
    calls.code = 0
    train(run)
    assert (run.folder / saved).exists() == (run.folder / '1').exists() == goes_on
    assert all('--resume' in command for command in calls.commands)
    (entry,) = read_ledger(tmp_path / 'runs.jsonl')
    assert (entry['minutes'] is None) == goes_on  # of the time before nobody knows


def test_nothing_of_other_settings_is_gone_on_with(tmp_path, calls):
    calls.code = 75
    with pytest.raises(RuntimeError, match='exit code'):
        train(make_run(tmp_path / 'run'))
    (tmp_path / 'run/epoch_1.pth').write_text('')
    (tmp_path / 'run/last_checkpoint').write_text('epoch_1.pth')
    calls.code = 0
    train(make_run(tmp_path / 'run', epochs=3))
    assert not (tmp_path / 'run/epoch_1.pth').exists()
    assert not (tmp_path / 'run/last_checkpoint').exists()


def test_two_commands_do_not_train_in_one_folder(tmp_path, calls, capfd):
    """The second waits, and takes what the first has made."""
    run = make_run(tmp_path / 'run')
    code = (
        'import sys, time; from pathlib import Path; from mcl_mm.evaluation.ledger import locked\n'
        'with locked(Path(sys.argv[1])): print("in", flush=True); sys.stdin.readline()'
    )
    with subprocess.Popen(
        [sys.executable, '-c', code, str(run.folder)], stdin=-1, stdout=-1, text=True
    ) as other:
        assert other.stdout.readline() == 'in\n'
        with subprocess.Popen(['sh', '-c', 'sleep 1; echo'], stdout=other.stdin):
            train(run)
    assert 'waiting for another command that trains in' in capfd.readouterr().out
