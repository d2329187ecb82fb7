"""What a run goes on from: the newest checkpoint that is one, and whole."""

import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook

from mcl_mm.engine import find_intact_checkpoint
from mcl_mm.engine.intact_checkpoint import progress
from mcl_mm.engine.resume import choose_start


def save(path, **changes):
    """A checkpoint as a run writes it; returns its path."""
    iterations = progress(path)[0]
    content = dict(
        state_dict=dict(w=torch.full((1000,), float(iterations))),
        meta=dict(epoch=0, iter=iterations),
        message_hub={},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(content, **changes), path)
    return path


@pytest.fixture
def work_dir(tmp_path):
    """Of a run with two checkpoints."""
    folder = tmp_path / 'work'
    save(folder / 'iter_2.pth')
    (folder / 'last_checkpoint').write_text(str(save(folder / 'iter_4.pth')))
    return folder


@pytest.fixture
def said(monkeypatch):
    """What is printed."""
    lines = []
    for module in ('intact_checkpoint', 'resume'):
        monkeypatch.setattr(
            f'mcl_mm.engine.{module}.print_log', lambda text, *_: lines.append(text)
        )
    return lines


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # inside the weights
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize('spoil', [cut, flip, empty, os.remove])
def test_damaged_newest_is_skipped_in_words(work_dir, spoil, said):
    newest, older = work_dir / 'iter_4.pth', work_dir / 'iter_2.pth'
    assert find_intact_checkpoint(str(work_dir)) == str(newest)
    spoil(newest)
    assert find_intact_checkpoint(str(work_dir)) == str(older)
    assert any('Skipping the checkpoint' in text and 'iter_4.pth' in text for text in said)
    spoil(older)
    with pytest.raises(ValueError, match='none of the . checkpoint'):
        find_intact_checkpoint(str(work_dir))


def test_nothing_to_resume(tmp_path):
    assert find_intact_checkpoint(str(tmp_path)) is None


def test_left_over_from_another_run_is_not_taken(work_dir):
    save(work_dir / 'iter_900.pth')
    assert find_intact_checkpoint(str(work_dir)) == str(work_dir / 'iter_4.pth')


def test_moved_work_dir(work_dir):
    os.rename(work_dir, work_dir.parent / 'new')
    newest = find_intact_checkpoint(str(work_dir.parent / 'new'))
    assert newest == str(work_dir.parent / 'new/iter_4.pth')


def test_weights_alone_are_no_checkpoint(work_dir, said):
    """Exports, weights by another program, the best model so far: none has the state of a run."""
    save(work_dir / 'iter_4.pth', message_hub=None, meta={})
    torch.save(dict(state_dict={}), work_dir / 'iter_3.pth')
    torch.save(dict(state_dict={}), work_dir / 'export.pth')
    assert find_intact_checkpoint(str(work_dir)) == str(work_dir / 'iter_2.pth')
    assert any('iter_4.pth' in text and 'no state of a run' in text for text in said)
    os.remove(work_dir / 'iter_2.pth')
    assert find_intact_checkpoint(str(work_dir)) is None


@pytest.mark.parametrize(
    'meta', [dict(epoch=0, iter='x'), dict(epoch=0, iter=-5), dict(epoch=None, iter=4)]
)
def test_counts_that_no_run_has_are_no_state_of_a_run(work_dir, said, meta):
    save(work_dir / 'iter_4.pth', meta=meta)
    assert find_intact_checkpoint(str(work_dir)) == str(work_dir / 'iter_2.pth')
    assert any('iter_4.pth' in text and 'no state of a run' in text for text in said)


def test_checkpoints_are_looked_for_where_they_are_written(tmp_path):
    """MMEngine writes to a folder of the work dir's name in the hook's ``out_dir``."""
    out, work_dir = tmp_path / 'out', tmp_path / 'work'
    work_dir.mkdir()
    written = save(out / 'work/iter_6.pth')
    assert find_intact_checkpoint(str(work_dir)) is None  # no last_checkpoint: the folder is new
    assert find_intact_checkpoint(str(work_dir), str(out)) == str(written)
    assert find_intact_checkpoint(f'{work_dir}/', str(out)) == str(written)


def test_order_of_names():
    names = ['epoch_2.pth', 'epoch_2_iter_7.pth', 'epoch_2_iter_11.pth', 'epoch_10.pth']
    assert sorted(reversed(names), key=progress) == names
    assert progress('best_coco_bbox_mAP_epoch_3.pth') is None


def runner_of(work_dir, load_from=None, resume=False):
    return SimpleNamespace(
        work_dir=str(work_dir), hooks=[CheckpointHook()], _load_from=load_from, _resume=resume
    )


@pytest.mark.parametrize(
    ('load_from', 'resume', 'wanted', 'begins'),
    [
        # what the config says, what the command line says, what the run begins from
        ('weights.pth', False, None, ('weights.pth', False)),
        (None, True, None, ('newest', True)),
        ('given.pth', True, None, ('given.pth', True)),
        ('weights.pth', False, 'auto', ('newest', True)),
        ('weights.pth', False, 'given.pth', ('given.pth', True)),
        (None, False, None, (None, False)),
    ],
)
def test_where_a_run_begins(work_dir, load_from, resume, wanted, begins):
    runner = runner_of(work_dir, load_from, resume)
    choose_start(runner, wanted)
    file = str(work_dir / 'iter_4.pth') if begins[0] == 'newest' else begins[0]
    assert (runner._load_from, runner._resume) == (file, begins[1])


def test_nothing_to_resume_begins_from_the_weights(tmp_path, said):
    (tmp_path / 'export.pth').write_bytes(b'weights')
    runner = runner_of(tmp_path, 'weights.pth')
    choose_start(runner, 'auto')
    assert (runner._load_from, runner._resume) == ('weights.pth', False)
    assert said == [
        f'Nothing to resume in {tmp_path}: the run begins, from the weights weights.pth.'
    ]
