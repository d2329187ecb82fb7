"""The quickstart at a tiny size, every stage for real."""

import json

import pytest
from mmengine.config import Config

from conftest import draw_images
from mcl_mm.evaluation import runs
from mcl_mm.quickstart import scenes
from mcl_mm.quickstart.run import Quickstart, steps_done
from mcl_mm.transfer import read_checkpoint
from processes import forked


class TinyQuickstart(Quickstart):
    """Two updates of pre-training and one epoch of fine-tuning."""

    def recipe(self, name):
        cfg = super().recipe(name)
        cfg.train_dataloader.num_workers = 0
        cfg.train_dataloader.persistent_workers = False
        cfg.default_hooks.logger.interval = 1
        if name == 'pretrain':
            cfg.train_dataloader.batch_size = 4
            cfg.train_cfg.max_iters = cfg.default_hooks.checkpoint.interval = 2
        else:
            cfg.train_cfg.update(max_epochs=1, val_interval=1)
            cfg.default_hooks.checkpoint.interval = 1
        return cfg


@pytest.fixture(autouse=True, scope='module')
def forked_runs():
    """Not each a Python of its own, as in tests/evaluation/test_compare_pretrain.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, 'call', forked)
        yield


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp('quickstart')
    for _ in scenes.draw_data_set(out / 'scenes', unlabelled=6, train=4, val=2):
        pass
    (out / 'scenes/complete').touch()
    quickstart = TinyQuickstart(out)
    assert quickstart.run() == out / 'index.html'
    return quickstart


def test_every_stage_left_what_it_is_for(finished):
    out = finished.out
    weights = read_checkpoint(str(out / 'export.pth'))['state_dict']
    assert {name.split('.')[0] for name in weights} == {'backbone', 'neck', 'roi_head'}
    assert list(finished.stages.minutes) == finished.stages.titles
    for start in ('random', 'pre-trained'):
        run = out / f'finetune/{start}-0'
        assert (
            json.loads((run / 'result.json').read_text())['metrics'] == finished.results[start][0]
        )
        assert steps_done(run) == 1
        loads = Config.fromfile(run / 'config.py').load_from
        assert loads == (None if start == 'random' else str(out / 'export.pth'))


def test_the_page_shows_pictures_and_the_table(finished):
    page = (finished.out / 'index.html').read_text()
    assert page.count('data:image/png') == 4
    for row in finished.table():
        assert ''.join(f'<td>{cell}</td>' for cell in row) in page or row[0] == 'start'
    assert [row[0] for row in finished.table()] == ['start', 'random', 'pre-trained']


def test_called_again_it_takes_what_is_finished(finished):
    checkpoints = [*finished.out.rglob('*.pth')]
    before = {path: path.stat().st_mtime_ns for path in checkpoints if path.name != 'export.pth'}
    again = TinyQuickstart(finished.out)
    again.run()
    assert again.results == finished.results
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_own_images(tmp_path):
    quickstart = TinyQuickstart(tmp_path / 'out', draw_images(tmp_path / 'my images', 3))
    page = quickstart.run().read_text()
    assert page.count('data:image/png') == 2
    assert 'my images' in page
    assert quickstart.table() == []
    assert read_checkpoint(str(tmp_path / 'out/export.pth'))['state_dict']


def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path):
    images = draw_images(tmp_path / 'one', 1)
    with pytest.raises(ValueError, match='holds one image'):
        Quickstart(tmp_path / 'out', images)
    with pytest.raises(OSError, match='no image'):
        Quickstart(tmp_path / 'out', tmp_path / 'missing')
    with pytest.raises(ValueError, match='--seeds must be at least 1'):
        Quickstart(tmp_path / 'out', seeds=0)
    assert not (tmp_path / 'out').exists()
