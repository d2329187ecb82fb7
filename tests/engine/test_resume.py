"""A run that is interrupted and resumed ends as one that is not, in every bit."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from conftest import draw_images
from mcl_mm.datasets.pack import pack
from tiny_runs import (
    TIMEOUT,
    WORKERS,
    check_same_run,
    curves,
    fault,
    final_state,
    launch,
    run,
    run_two,
    start,
    wait,
    write_config,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """9 images of which one cannot be read and is replaced by another."""
    folder = tmp_path_factory.mktemp('resume')
    images = draw_images(folder / 'images', 9)
    (images / '0005.jpg').write_bytes(b'no image')
    return folder


@pytest.fixture(scope='module', params=[True, False], ids=['by_epoch', 'by_iter'])
def uninterrupted(request, folder):
    """A config and the work dir of a run from it."""
    config = write_config(folder, folder / 'images', by_epoch=request.param)
    work_dir = folder / f'{config.stem}_whole'
    run(config, work_dir)
    return config, work_dir


by_epoch_only = pytest.mark.parametrize('uninterrupted', [True], indirect=True, ids=['by_epoch'])


def test_every_iteration_has_data_of_its_own(uninterrupted):
    logged = curves(uninterrupted[1])
    assert list(logged) == list(range(1, 13))
    assert len({scalars['loss'] for scalars in logged.values()}) == 12


def test_killed_run_resumes_from_its_last_checkpoint(uninterrupted, folder):
    """Started with two workers, resumed without."""
    config, whole = uninterrupted
    work_dir = folder / f'{config.stem}_killed'
    run(config, work_dir, *WORKERS, *fault(9, 'SIGKILL'), code=-signal.SIGKILL)
    run(config, work_dir)
    check_same_run(work_dir, whole)


def test_signalled_run_saves_within_one_iteration(uninterrupted, folder):
    """Resumed with two workers; within an epoch, not with another batch size."""
    config, whole = uninterrupted
    by_epoch = config.stem == 'by_epoch'
    number = 'SIGTERM' if by_epoch else 'SIGINT'
    work_dir = folder / f'{config.stem}_{number}'
    output = run(config, work_dir, *fault(9, number), code=75)
    assert f'{number}: saving and stopping' in output
    assert '0005.jpg\tnot an image' in (work_dir / 'bad_images.txt').read_text()  # noted till then
    assert final_state(work_dir)['meta']['iter'] == 10
    name = 'epoch_2_iter_10.pth' if by_epoch else 'iter_10.pth'
    assert (work_dir / 'last_checkpoint').read_text().endswith(f'/{name}')
    if by_epoch:
        output = run(config, work_dir, 'train_dataloader.batch_size=3', code=1)
        assert 'batch_size 2 -> 3' in output.splitlines()[-1]
    run(config, work_dir, *WORKERS)
    check_same_run(work_dir, whole)
    assert len(list(work_dir.glob('*.pth'))) == 2  # max_keep_ckpts


def test_a_signal_to_all_processes_of_a_run(folder):
    """As scancel and systemd send it: the data workers get it first, and serve the run until it has saved."""
    config = write_config(folder, folder / 'images', by_epoch=False)
    work_dir = folder / 'all_signalled'
    process = start(config, work_dir, *WORKERS, *fault(9, 'pause'))
    while not (work_dir / 'paused').exists():
        assert process.is_alive()
        time.sleep(0.1)
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    assert len(children) == 2
    for number in (*map(int, children), process.pid):
        os.kill(number, signal.SIGTERM)
    output = wait(process, work_dir, code=75)
    assert 'Stopped by a signal after 10 iterations' in output
    assert final_state(work_dir)['meta']['iter'] == 10


@by_epoch_only
def test_signal_in_the_last_iteration_of_an_epoch(uninterrupted, folder):
    config, whole = uninterrupted
    work_dir = folder / 'epoch_end'
    run(config, work_dir, *fault(7, 'SIGTERM'), code=75)
    assert (work_dir / 'last_checkpoint').read_text().endswith('/epoch_2.pth')
    run(config, work_dir)
    check_same_run(work_dir, whole)


@by_epoch_only
def test_a_run_on_loose_files_goes_on_with_the_packed_ones(uninterrupted, folder):
    """Amid an epoch, with a bad image; by workers that read shards."""
    config, whole = uninterrupted
    pack(str(folder / 'images'), str(folder / 'packed'), 8000)
    assert len(list((folder / 'packed').glob('*.tar'))) > 1
    work_dir = folder / 'packed_run'
    run(config, work_dir, *fault(5, 'SIGTERM'), code=75)
    run(config, work_dir, f'train_dataloader.dataset.data_root={folder}/packed', *WORKERS)
    check_same_run(work_dir, whole)


@by_epoch_only
def test_place_is_kept_after_epochs_of_another_length(uninterrupted, folder):
    """Two epochs of 4 iterations, then one of 3 that is stopped after 2; iterations are counted anew."""
    config, whole = uninterrupted
    longer, cut = folder / 'longer', folder / 'longer_cut'
    for work_dir in (longer, cut):
        shutil.copytree(whole, work_dir)
        (work_dir / 'epoch_3.pth').unlink()
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
    batch = 'train_dataloader.batch_size=3'
    run(config, longer, batch)
    run(config, cut, batch, *fault(7, 'SIGTERM'), code=75)
    assert (cut / 'last_checkpoint').read_text().endswith('/epoch_2_iter_8.pth')
    run(config, cut, batch)
    assert final_state(cut)['meta']['iter'] == 9
    check_same_run(cut, longer)


def test_checkpoints_wait_for_the_end_of_an_accumulation(folder):
    """3 accumulated steps, 4 iterations an epoch, a checkpoint every epoch: due amid an update."""
    config = write_config(folder, folder / 'images', by_epoch=True)
    accumulate = 'optim_wrapper.accumulative_counts=3'
    whole, work_dir = folder / 'accumulate', folder / 'accumulate_cut'
    run(config, whole, accumulate)
    run(config, work_dir, accumulate, *fault(8), code=1)
    assert final_state(work_dir)['meta']['iter'] == 6
    run(config, work_dir, accumulate)
    check_same_run(work_dir, whole)


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


@by_epoch_only
def test_images_too_bad_stop_the_run_with_a_checkpoint(uninterrupted, folder):
    """Allowed more of them, it goes on as if it had not been stopped."""
    config, whole = uninterrupted
    work_dir = folder / 'too_bad'
    hook = 'default_hooks.bad_images'
    output = run(config, work_dir, f'{hook}.interval=1', f'{hook}.min_count=0', code=1)
    assert output.splitlines()[-1].startswith('TooManyBadImagesError: 1 of ')
    assert '_iter_' in (work_dir / 'last_checkpoint').read_text()  # not a regular one
    run(config, work_dir)
    check_same_run(work_dir, whole)


def test_step_that_was_not_finite_is_repeated(uninterrupted, folder):
    """From the state that was saved, in which the overflow has left nothing.

    Nor in the scalars that wait on the device for the next line of the log.
    """
    config, whole = uninterrupted
    at, lazy = 0, []
    if config.stem == 'by_epoch':
        settings = ('runtime_info.type=LazyRuntimeInfoHook', 'logger.interval=4')
        at, lazy = 9, [f'default_hooks.{setting}' for setting in settings]
    work_dir = folder / f'{config.stem}_overflow'
    output = run(config, work_dir, *lazy, *fault(at, 'overflow'), code=1)
    assert f'FloatingPointError: iteration {at + 1}: not finite: loss_q_level_0' in output
    run(config, work_dir, resume=str(work_dir / f'nonfinite_iter_{at + 1}/state.pth'))
    check_same_run(work_dir, whole, begin=at + 1)


def test_two_processes_stop_together_and_resume(folder, free_port):
    """One is signalled, as by Slurm, then the launcher; each process has random numbers of its own."""
    config = write_config(folder, folder / 'images', by_epoch=True)
    port = str(free_port)
    whole, work_dir = folder / 'dist_whole', folder / 'dist_cut'
    run_two(config, whole, port)
    run_two(config, work_dir, port, *fault(2, 'SIGUSR1', rank=1), code=75)
    assert final_state(work_dir)['meta']['iter'] == 3

    launcher = launch(config, work_dir, *fault(4, 'pause'), processes=2, port=port)
    while not (work_dir / 'paused').exists():
        assert launcher.poll() is None
        time.sleep(0.1)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(TIMEOUT) == 1  # torchrun's own code
    assert 'Stopped by a signal after 5 iterations' in Path(f'{work_dir}.log').read_text()
    assert final_state(work_dir)['meta']['iter'] == 5

    run_two(config, work_dir, port)
    check_same_run(work_dir, whole)
