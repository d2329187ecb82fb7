"""A full disk costs lines of the log, not the run."""

import json
import os

from conftest import draw_images
from mcl_mm.engine import local_log
from mcl_mm.engine.local_log import LocalVisBackend
from mcl_mm.engine.run import load_config, start, train
from tiny_runs import write_config


def test_lines_that_cannot_be_written_are_left_out(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(local_log, 'print_log', lambda text, *_: said.append(text))
    backend, path = LocalVisBackend(str(tmp_path)), tmp_path / 'scalars.json'
    path.symlink_to('/dev/full')
    backend.add_scalars(dict(loss=1.0), step=1)
    backend.add_scalar('loss', 2.0, step=2)
    assert len(said) == 1
    assert 'No space left on device). Training goes on' in said[0]
    path.unlink()
    backend.add_scalars(dict(loss=3.0), step=3)
    assert json.loads(path.read_text()) == dict(loss=3.0, step=3)


def test_a_run_goes_on(tmp_path):
    """Its config still names MMEngine's backend, which every program has."""
    config = write_config(tmp_path, draw_images(tmp_path / 'images', 4), by_epoch=False)
    options = {'train_cfg.max_iters': 2}
    runner = start(load_config(str(config), str(tmp_path / 'work'), options))
    assert runner.cfg.visualizer.vis_backends[0].type == 'LocalVisBackend'
    path = f'{runner.log_dir}/vis_data/scalars.json'
    assert not os.path.exists(path)
    os.symlink('/dev/full', path)
    train(runner)
    assert (tmp_path / 'work/iter_2.pth').is_file()
