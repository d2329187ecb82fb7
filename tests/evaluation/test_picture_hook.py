"""Where people look: scalars and pictures reach every backend, and a run can be read whichever is on."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from conftest import ROOT, SMALL, draw_images
from conftest import call_tool as call
from mcl_mm.evaluation.picture_hook import PictureHook
from mcl_mm.evaluation.run_log import read_scalars
from tiny_runs import difference

PRETRAIN = ROOT / 'configs/quickstart/pretrain.py'
TENSORBOARD = importlib.util.find_spec('tensorboard') is not None
ELSEWHERE = 'TensorboardVisBackend' if TENSORBOARD else 'LocalVisBackend'
CONFIG = """
_base_ = {base!r}
visualizer = dict(_delete_=True, type='Visualizer', vis_backends=[{backends}])
default_hooks = dict({hooks})
"""


def start(folder: Path, name: str, backends: list[str], hooks: str = '') -> Path:
    """A pre-training run of two steps; returns its work directory."""
    config = folder / f'{name}.py'
    types = ', '.join(f'dict(type={backend!r})' for backend in backends)
    config.write_text(CONFIG.format(base=str(PRETRAIN), backends=types, hooks=hooks))
    with pytest.MonkeyPatch.context() as patch:
        call(patch, 'train', config, '--work-dir', folder / name, '--cfg-options', *SMALL,
             f'train_dataloader.dataset.data_root={folder / "images"}')  # fmt: skip
    return folder / name


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """One that logs to several places, with pictures, and one that logs elsewhere alone, without."""
    folder = tmp_path_factory.mktemp('logged')
    draw_images(folder / 'images', 6)
    several = list(dict.fromkeys(['LocalVisBackend', ELSEWHERE]))
    pictures = "pictures=dict(type='PictureHook', images=4)"
    return start(folder, 'several', several, pictures), start(folder, 'alone', [ELSEWHERE])


def events(run: Path):
    """What a run has written for TensorBoard."""
    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator', reason='needs tensorboard'
    )
    (folder,) = run.glob('*/vis_data')
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.parametrize('index', [0, 1], ids=['several at once', 'alone'])
def test_tensorboard_has_the_scalars_that_plots_read(runs, index):
    found = events(runs[index])
    for name in ('loss', 'acc_q_level_3', 'rank_k_level_0', 'lr'):
        wanted = {line['step']: line[name] for line in read_scalars(runs[index])}
        assert len(wanted) == 2
        assert {e.step: e.value for e in found.Scalars(name)} == pytest.approx(wanted, rel=1e-4)


def test_pictures_reach_every_backend(runs):
    shown = {}
    for name, step in (('montage.png', 0), ('run.png', 2)):
        (path,) = runs[0].glob(f'*/vis_data/vis_image/{name}_{step}.png')
        shown[name] = cv2.imread(str(path))
    assert np.array_equal(shown['run.png'], cv2.imread(str(runs[0] / 'run.png')))
    page = (runs[0] / 'run.html').read_text()
    assert 'No pictures' not in page
    assert 'tiles find their own among 4 images' in page
    for name, picture in shown.items():
        (event,) = events(runs[0]).Images(name)
        encoded = np.frombuffer(event.encoded_image_string, np.uint8)
        assert np.array_equal(cv2.imdecode(encoded, cv2.IMREAD_COLOR), picture)


def test_the_montage_is_that_of_browse(runs, tmp_path, monkeypatch):
    call(monkeypatch, 'browse', PRETRAIN, tmp_path / 'm.png', '--batch-size', 4, '--cfg-options',
         f'train_dataloader.dataset.data_root={runs[0].parent / "images"}')  # fmt: skip
    (path,) = runs[0].glob('*/vis_data/vis_image/montage.png_0.png')
    assert np.array_equal(cv2.imread(str(path)), cv2.imread(str(tmp_path / 'm.png')))


def test_training_does_not_notice(runs):
    one, other = (torch.load(run / 'iter_2.pth', weights_only=False) for run in runs)
    for part in ('state_dict', 'optimizer'):
        assert difference(one[part], other[part], part) is None


def test_plot_works_whichever_is_on(runs, monkeypatch, capsys):
    """Also on the run whose config names no local backend."""
    call(monkeypatch, 'plot', *runs, '--out', runs[1], '--images', 4)
    page = (runs[1] / 'run.html').read_text()
    assert 'No pictures' not in page
    first, last = (line['loss'] for line in read_scalars(runs[0]))
    cell = f'<td>{first:.4g} → {last:.4g}</td>'
    assert f'<td>loss</td>{cell}{cell}' in page


def test_at_least_one_image():
    with pytest.raises(ValueError, match='images of PictureHook must be at least 1, got 0'):
        PictureHook(images=0)
