"""A run that is interrupted and resumed ends as one that is not, in every bit."""

import re
import signal
import sys
import uuid
from importlib import import_module

import pytest
from mmengine.registry import DefaultScope

from conftest import draw_images
from tiny_runs import Interrupted, curves, difference, final_state, start, write_config


@pytest.fixture(autouse=True, scope='module')
def _signals():
    """Handlers are put back."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers):
        signal.signal(number, handler)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Both configs, on 26 images of which one cannot be read and is replaced by another."""
    folder = tmp_path_factory.mktemp('resume')
    images = draw_images(folder / 'images', 26)
    (images / '0010.jpg').write_bytes(b'no image')
    return folder


def train(monkeypatch, config, work_dir, *options, resume=False):
    """Run tools/train.py in this process."""
    arguments = ['--resume'] if resume else []
    arguments += ['--work-dir', str(work_dir), '--cfg-options', *options]
    arguments.append(f'experiment_name={uuid.uuid4().hex}')  # MMEngine keeps what runs log by name
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', str(config), *arguments])
    with DefaultScope.overwrite_default_scope('mmengine'):
        import_module('train').main()


WORKERS = ('train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True')
STATE = ('state_dict', 'optimizer', 'param_schedulers')


def assert_same_run(work_dir, expected):
    for part in STATE:
        assert difference(final_state(work_dir)[part], final_state(expected)[part], part) is None
    assert curves(work_dir) == curves(expected)


@pytest.fixture(scope='module', params=[True, False], ids=['by_epoch', 'by_iter'])
def uninterrupted(request, folder):
    """A config, the work dir of a run from it, and that run's number of iterations."""
    config = write_config(folder, folder / 'images', by_epoch=request.param)
    work_dir = folder / f'{config.stem}_whole'
    with pytest.MonkeyPatch.context() as patch:
        train(patch, config, work_dir)
    return config, work_dir, 18 if request.param else 14


def test_runs_repeat_with_any_number_of_workers(uninterrupted, folder, monkeypatch):
    config, whole, iterations = uninterrupted
    work_dir = folder / f'{config.stem}_workers'
    train(monkeypatch, config, work_dir, *WORKERS)
    assert_same_run(work_dir, whole)
    logged = curves(whole)
    assert len(logged) == iterations
    assert len({scalars['loss'] for scalars in logged.values()}) == iterations


def test_killed_run_resumes_from_its_last_checkpoint(uninterrupted, folder, monkeypatch):
    """Started without workers, resumed with two."""
    config, whole, _ = uninterrupted
    work_dir = folder / f'{config.stem}_killed'
    with pytest.raises(Interrupted):
        train(monkeypatch, config, work_dir, 'default_hooks.fault.type=FaultHook',
              'default_hooks.fault.at=9')  # fmt: skip
    train(monkeypatch, config, work_dir, *WORKERS, resume=True)
    assert_same_run(work_dir, whole)


def test_signalled_run_saves_within_one_iteration(uninterrupted, folder, monkeypatch, capfd):
    config, whole, _ = uninterrupted
    number = 'SIGTERM' if 'epoch' in config.stem else 'SIGINT'
    work_dir = folder / f'{config.stem}_{number}'
    with pytest.raises(SystemExit) as stop:
        train(monkeypatch, config, work_dir, 'default_hooks.fault.type=FaultHook',
              'default_hooks.fault.at=9', f'default_hooks.fault.what={number}')  # fmt: skip
    assert stop.value.code == 75
    assert f'{number}: saving and stopping' in capfd.readouterr().err
    assert final_state(work_dir)['meta']['iter'] == 10
    name = 'epoch_1_iter_10.pth' if 'epoch' in config.stem else 'iter_10.pth'
    assert (work_dir / 'last_checkpoint').read_text().endswith(f'/{name}')
    train(monkeypatch, config, work_dir, resume=True)
    assert_same_run(work_dir, whole)
    assert len(list(work_dir.glob('*.pth'))) == 2  # max_keep_ckpts


def test_signal_in_the_last_iteration_of_an_epoch(uninterrupted, folder, monkeypatch):
    config, whole, _ = uninterrupted
    if 'epoch' not in config.stem:
        pytest.skip('has no epochs')
    work_dir = folder / 'epoch_end'
    with pytest.raises(SystemExit):
        train(monkeypatch, config, work_dir, 'default_hooks.fault.type=FaultHook',
              'default_hooks.fault.at=11', 'default_hooks.fault.what=SIGTERM')  # fmt: skip
    assert (work_dir / 'last_checkpoint').read_text().endswith('/epoch_2.pth')
    train(monkeypatch, config, work_dir, resume=True)
    assert_same_run(work_dir, whole)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_checkpoints_wait_for_the_end_of_an_accumulation(folder, monkeypatch, by_epoch):
    """4 accumulated steps, 6 iterations an epoch, a checkpoint every 6: due amid an update."""
    config = write_config(folder, folder / 'images', by_epoch)
    options = ['optim_wrapper.accumulative_counts=4']
    if not by_epoch:
        options += ['default_hooks.checkpoint.interval=6']
    whole, work_dir = folder / f'accumulate_{by_epoch}', folder / f'accumulate_{by_epoch}_cut'
    train(monkeypatch, config, whole, *options)
    with pytest.raises(Interrupted):
        train(monkeypatch, config, work_dir, *options, 'default_hooks.fault.type=FaultHook',
              'default_hooks.fault.at=11')  # fmt: skip
    assert final_state(work_dir)['meta']['iter'] == 8
    train(monkeypatch, config, work_dir, *options, resume=True)
    assert_same_run(work_dir, whole)


def test_resuming_with_another_batch_size_inside_an_epoch_is_refused(folder, monkeypatch):
    config = write_config(folder, folder / 'images', by_epoch=True)
    work_dir = folder / 'other_batch'
    with pytest.raises(SystemExit):
        train(monkeypatch, config, work_dir, 'default_hooks.fault.type=FaultHook',
              'default_hooks.fault.at=7', 'default_hooks.fault.what=SIGTERM')  # fmt: skip
    with pytest.raises(SystemExit) as refused:
        train(monkeypatch, config, work_dir, 'train_dataloader.batch_size=5', resume=True)
    assert 'batch_size 4 -> 5' in refused.value.code


def test_seed_that_was_drawn_is_kept(folder, monkeypatch):
    """Without a seed in the config the checkpoint's counts, for the order of the images too."""
    config = write_config(folder, folder / 'images', by_epoch=False)
    options = ['randomness.seed=None', 'default_hooks.checkpoint.max_keep_ckpts=9']
    work_dir = folder / 'drawn_seed'
    train(monkeypatch, config, work_dir, *options)
    before, logged = final_state(work_dir), curves(work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_8.pth'))
    train(monkeypatch, config, work_dir, *options, resume=True)
    for part in STATE:
        assert difference(final_state(work_dir)[part], before[part], part) is None
    assert curves(work_dir) == logged


def test_two_processes_stop_together_and_resume(folder, free_port):
    """A signal to one process, or to the launcher; each process has random numbers of its own."""
    config = write_config(folder, folder / 'images', by_epoch=True)
    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    whole, work_dir = folder / 'dist_whole', folder / 'dist_cut'
    assert start(config, whole, *options, processes=2, port=free_port).wait(200) == 0
    stopped = start(config, work_dir, *options, 'default_hooks.fault.type=FaultHook',
                    'default_hooks.fault.at=3', 'default_hooks.fault.what=SIGUSR1',
                    'default_hooks.fault.rank=1', processes=2, port=free_port)  # fmt: skip
    assert stopped.wait(200) == 1  # torchrun's own code
    output = (folder / 'dist_cut.log').read_text()
    assert re.search(r'exitcode +: 75', output)
    assert final_state(work_dir)['meta']['iter'] == 4
    resumed = start(config, work_dir, '--resume', *options, processes=2, port=free_port)
    assert resumed.wait(200) == 0
    assert_same_run(work_dir, whole)
