"""Checkpoints are whole or not there; the last good one survives whatever happens to the next."""

import errno
import os
import socket
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.logging import MessageHub

from mcl_mm.engine import AtomicBackend, SafeCheckpointHook, find_intact_checkpoint
from mcl_mm.files import SUFFIX


class TinyRunner:
    """As much of a Runner as saving needs: the checkpoint holds the iteration, and saves as MMEngine's."""

    def __init__(self, work_dir, max_iters=100):
        self.work_dir = str(work_dir)
        self.max_iters, self.max_epochs = max_iters, 1
        self.iter = self.epoch = 0
        self.logger = Mock()
        self.message_hub = MessageHub(f'hub{id(self)}')
        self.optim_wrapper = SimpleNamespace(should_update=lambda: True)
        self.train_loop = None
        self.called = []

    def call_hook(self, name):
        self.called.append(name)

    def save_checkpoint(self, out_dir, name, *_, meta, backend_args, **__):
        from mmengine.runner import save_checkpoint

        content = dict(
            message_hub={}, meta=meta, state_dict=dict(w=torch.full((9,), float(meta['iter'])))
        )
        save_checkpoint(content, os.path.join(out_dir, name), backend_args=backend_args)


def run(hook, runner, iterations):
    hook.before_train(runner)
    for _ in range(iterations):
        hook.after_train_iter(runner, runner.iter)
        runner.iter += 1
    hook.after_train(runner)


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def make_hook(**kwargs):
    return SafeCheckpointHook(by_epoch=False, interval=2, max_keep_ckpts=2, **kwargs)


def test_keeps_the_newest(tmp_path):
    run(make_hook(), TinyRunner(tmp_path), 9)
    assert files(tmp_path) == ['iter_6.pth', 'iter_8.pth', 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_8.pth')
    assert torch.load(tmp_path / 'iter_8.pth')['meta']['iter'] == 8


def fail_from(monkeypatch, first, step):
    """Every call number >= ``first`` of ``os.<step>`` ends like on a full disk."""
    calls, real = [], getattr(os, step)

    def failing(*arguments, **kwargs):
        calls.append(arguments)
        if len(calls) >= first:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(*arguments, **kwargs)

    monkeypatch.setattr(os, step, failing)


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_full_disk_keeps_the_last_good_ones_and_goes_on(tmp_path, monkeypatch, step):
    """Not one old file is given up for a new one that cannot be written."""
    runner = TinyRunner(tmp_path)
    hook = make_hook()
    hook.before_train(runner)
    for runner.iter in range(8):
        if runner.iter == 4:  # two are there, with their last_checkpoint
            fail_from(monkeypatch, 1, step)
        hook.after_train_iter(runner, runner.iter)
    assert files(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'last_checkpoint']
    assert find_intact_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_4.pth')
    # What another checkpoint, as of a step that is not finite, would hold.
    info = runner.message_hub.runtime_info
    assert info['last_ckpt'] == str(tmp_path / 'iter_4.pth')
    assert info['keep_ckpt_ids'] == [2, 4]
    messages = [call.args[0] for call in runner.logger.error.call_args_list]
    assert len(messages) == 2
    assert all('No space left on device' in message for message in messages)
    assert all(str(tmp_path / 'iter_4.pth') in message for message in messages)
    monkeypatch.undo()  # there is room again
    runner.iter = 9
    hook.after_train_iter(runner, 9)
    assert files(tmp_path) == ['iter_10.pth', 'iter_4.pth', 'last_checkpoint']


def test_full_disk_at_the_end_is_an_error(tmp_path, monkeypatch):
    runner = TinyRunner(tmp_path, max_iters=4)
    hook = make_hook()
    hook.before_train(runner)
    for runner.iter in range(3):
        hook.after_train_iter(runner, runner.iter)
    fail_from(monkeypatch, 1, 'fsync')
    runner.iter = 3
    with pytest.raises(OSError, match=r'iter_4.pth could not be written .*iter_2\.pth'):
        hook.after_train_iter(runner, 3)
    assert files(tmp_path) == ['iter_2.pth', 'last_checkpoint']


def test_waits_for_the_end_of_an_accumulation(tmp_path):
    """Due every 2 iterations; 3 are accumulated."""
    runner = TinyRunner(tmp_path)
    runner.optim_wrapper.should_update = lambda: runner.iter % 3 == 2
    run(make_hook(), runner, 7)
    assert files(tmp_path) == ['iter_3.pth', 'iter_6.pth', 'last_checkpoint']


def test_stop_by_another_hook_saves_after_the_update(tmp_path):
    runner, hook = TinyRunner(tmp_path), make_hook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    hook.stop(ValueError('bad data'))
    runner.optim_wrapper.should_update = lambda: False
    runner.iter = 1
    hook.after_train_iter(runner, 1)  # gradients wait
    assert files(tmp_path) == []
    runner.optim_wrapper.should_update = lambda: True
    runner.iter = 2
    with pytest.raises(ValueError, match='bad data'):
        hook.after_train_iter(runner, 2)
    assert files(tmp_path) == ['iter_3.pth', 'last_checkpoint']
    assert runner.called == ['before_stop']
    hook.after_train(runner)


def unfinished_file(folder, pid):
    """What a process leaves that is killed while it writes a checkpoint."""
    path = folder / f'.{socket.gethostname()[:64]}.{pid}.abc{SUFFIX}.pth'
    path.write_bytes(b'unfinished')
    return path


def test_killed_before_old_ones_were_removed(tmp_path, monkeypatch):
    """The list in the checkpoint names the surplus file; resuming removes it."""
    runner = TinyRunner(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(AtomicBackend, 'remove', Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(make_hook(), runner, 6)
    assert len(list(tmp_path.glob('*.pth'))) == 3
    left_over = unfinished_file(tmp_path, 2**22 + 1)  # no process has this number
    own_now = unfinished_file(tmp_path, os.getppid())
    make_hook().before_train(runner)
    assert not left_over.exists()
    assert own_now.exists()
    own_now.unlink()
    assert files(tmp_path) == ['iter_4.pth', 'iter_6.pth', 'last_checkpoint']
