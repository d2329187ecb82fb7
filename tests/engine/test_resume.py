"""A run that is interrupted and resumed ends as one that is not, in every bit."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from conftest import draw_images
from tiny_runs import (
    WORKERS,
    check_same_run,
    curves,
    fault,
    final_state,
    launch,
    run,
    start,
    wait,
    write_config,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """26 images of which one cannot be read and is replaced by another."""
    folder = tmp_path_factory.mktemp('resume')
    images = draw_images(folder / 'images', 26)
    (images / '0010.jpg').write_bytes(b'no image')
    return folder


@pytest.fixture(scope='module', params=[True, False], ids=['by_epoch', 'by_iter'])
def uninterrupted(request, folder):
    """A config, the work dir of a run from it, and that run's number of iterations."""
    config = write_config(folder, folder / 'images', by_epoch=request.param)
    work_dir = folder / f'{config.stem}_whole'
    run(config, work_dir)
    return config, work_dir, 18 if request.param else 14


def test_runs_repeat_with_any_number_of_workers(uninterrupted, folder):
    config, whole, iterations = uninterrupted
    work_dir = folder / f'{config.stem}_workers'
    run(config, work_dir, *WORKERS)
    check_same_run(work_dir, whole)
    logged = curves(whole)
    assert len(logged) == iterations
    assert len({scalars['loss'] for scalars in logged.values()}) == iterations


def test_killed_run_resumes_from_its_last_checkpoint(uninterrupted, folder):
    """Started without workers, resumed with two."""
    config, whole, _ = uninterrupted
    work_dir = folder / f'{config.stem}_killed'
    run(config, work_dir, *fault(9, 'SIGKILL'), code=-signal.SIGKILL)
    run(config, work_dir, *WORKERS)
    check_same_run(work_dir, whole)


def test_signalled_run_saves_within_one_iteration(uninterrupted, folder):
    config, whole, _ = uninterrupted
    number = 'SIGTERM' if 'epoch' in config.stem else 'SIGINT'
    work_dir = folder / f'{config.stem}_{number}'
    output = run(config, work_dir, *fault(9, number), code=75)
    assert f'{number}: saving and stopping' in output
    assert final_state(work_dir)['meta']['iter'] == 10
    name = 'epoch_1_iter_10.pth' if 'epoch' in config.stem else 'iter_10.pth'
    assert (work_dir / 'last_checkpoint').read_text().endswith(f'/{name}')
    run(config, work_dir)
    check_same_run(work_dir, whole)
    assert len(list(work_dir.glob('*.pth'))) == 2  # max_keep_ckpts


def test_signal_in_the_last_iteration_of_an_epoch(uninterrupted, folder):
    config, whole, _ = uninterrupted
    if 'epoch' not in config.stem:
        pytest.skip('has no epochs')
    work_dir = folder / 'epoch_end'
    run(config, work_dir, *fault(11, 'SIGTERM'), code=75)
    assert (work_dir / 'last_checkpoint').read_text().endswith('/epoch_2.pth')
    run(config, work_dir)
    check_same_run(work_dir, whole)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_checkpoints_wait_for_the_end_of_an_accumulation(folder, by_epoch):
    """4 accumulated steps, 6 iterations an epoch, a checkpoint every 6: due amid an update."""
    config = write_config(folder, folder / 'images', by_epoch)
    options = ['optim_wrapper.accumulative_counts=4']
    if not by_epoch:
        options += ['default_hooks.checkpoint.interval=6']
    whole, work_dir = folder / f'accumulate_{by_epoch}', folder / f'accumulate_{by_epoch}_cut'
    run(config, whole, *options)
    run(config, work_dir, *options, *fault(11), code=1)
    assert final_state(work_dir)['meta']['iter'] == 8
    run(config, work_dir, *options)
    check_same_run(work_dir, whole)


def test_resuming_with_another_batch_size_inside_an_epoch_is_refused(folder):
    config = write_config(folder, folder / 'images', by_epoch=True)
    work_dir = folder / 'other_batch'
    run(config, work_dir, *fault(7, 'SIGTERM'), code=75)
    output = run(config, work_dir, 'train_dataloader.batch_size=5', code=1)
    assert 'batch_size 4 -> 5' in output.splitlines()[-1]


def test_seed_that_was_drawn_is_kept(folder):
    """Without a seed in the config the checkpoint's counts, for the order of the images too."""
    config = write_config(folder, folder / 'images', by_epoch=False)
    options = ['randomness.seed=None', 'default_hooks.checkpoint.max_keep_ckpts=9']
    whole, work_dir = folder / 'drawn_seed', folder / 'drawn_seed_cut'
    run(config, whole, *options)
    shutil.copytree(whole, work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_8.pth'))
    run(config, work_dir, *options)
    check_same_run(work_dir, whole)


def test_images_too_bad_stop_the_run_with_a_checkpoint(uninterrupted, folder):
    """Allowed more of them, it goes on as if it had not been stopped."""
    config, whole, _ = uninterrupted
    work_dir = folder / f'{config.stem}_bad'
    hook = 'default_hooks.bad_images'
    output = run(config, work_dir, f'{hook}.interval=1', f'{hook}.min_count=0', code=1)
    assert output.splitlines()[-1].startswith('TooManyBadImagesError: 1 of ')
    assert final_state(work_dir)['meta']['iter'] % 4  # not a regular one
    run(config, work_dir)
    check_same_run(work_dir, whole)


@pytest.mark.parametrize('at', [0, 9])
def test_step_that_was_not_finite_is_repeated(uninterrupted, folder, at):
    """From the state that was saved, in which the overflow has left nothing."""
    config, whole, _ = uninterrupted
    work_dir = folder / f'{config.stem}_overflow_{at}'
    output = run(config, work_dir, *fault(at, 'overflow'), code=1)
    assert f'FloatingPointError: iteration {at + 1}: not finite: loss_q_level_0' in output
    run(config, work_dir, resume=str(work_dir / f'nonfinite_iter_{at + 1}/state.pth'))
    check_same_run(work_dir, whole)


def run_two(config, work_dir, port, *options, code=0):
    """Two processes, as torchrun starts them."""
    ranks = [
        dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        for rank in '01'
    ]
    for process in [start(config, work_dir, *options, env=env) for env in ranks]:
        wait(process, work_dir, code)


def test_two_processes_stop_together_and_resume(folder, free_port):
    """One is signalled, as by Slurm, then the launcher; each process has random numbers of its own."""
    config = write_config(folder, folder / 'images', by_epoch=True)
    port = str(free_port)
    whole, work_dir = folder / 'dist_whole', folder / 'dist_cut'
    run_two(config, whole, port)
    run_two(config, work_dir, port, *fault(3, 'SIGUSR1', rank=1), code=75)
    assert final_state(work_dir)['meta']['iter'] == 4

    launcher = launch(config, work_dir, *fault(6, 'pause'), processes=2, port=port)
    while max(curves(work_dir)) < 6:
        assert launcher.poll() is None
        time.sleep(0.1)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) == 1  # torchrun's own code
    assert 'Stopped by a signal after 7 iterations' in Path(f'{work_dir}.log').read_text()
    assert final_state(work_dir)['meta']['iter'] == 7

    run_two(config, work_dir, port)
    check_same_run(work_dir, whole)
