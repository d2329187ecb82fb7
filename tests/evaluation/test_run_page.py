"""The page of a run: resumed runs are one curve, the numbers are those logged."""

import base64
import json
import re

import cv2
import matplotlib.pyplot as plt
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from conftest import ROOT, SMALL, draw_images
from conftest import call_tool as call
from mcl_mm.evaluation.montage_picture import build_montage
from mcl_mm.evaluation.run_log import read_scalars
from mcl_mm.evaluation.run_page import draw_curves, draw_neighbours
from mcl_mm.models.montage import Montage

PRETRAIN = ROOT / 'configs/quickstart/pretrain.py'


def write(run, name, lines):
    folder = run / name / 'vis_data'
    folder.mkdir(parents=True)
    text = '\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / 'scalars.json').write_text(text)


def test_neighbours_are_those_of_the_loss(tiny_config, build, views):
    """The sentence's count is the head's own accuracy on the batch."""
    model = build(tiny_config)
    batch = views(8)
    q, k = model.data_preprocessor.montage(batch[:4], batch[4:])
    picture, sentences = draw_neighbours(model, q, k)
    assert picture.ndim == 3
    sides = [Montage(tuple((s - 127.0) / 64 for s in m.sheets), m.sources) for m in (q, k)]
    losses = build(tiny_config).train().loss(sides)
    for level, sentence in enumerate(sentences):
        right, tiles, images = map(
            int, re.findall(r': (\d+) of (\d+) .* (\d+) images', sentence)[0]
        )
        assert (tiles, images) == (len(q.sources[level]), 8)
        assert right / tiles == pytest.approx(losses[f'acc_q_level_{level}'].item())


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A pre-training run of two steps."""
    folder = tmp_path_factory.mktemp('plot')
    images = draw_images(folder / 'images', 6)
    with pytest.MonkeyPatch.context() as patch:
        call(patch, 'train', PRETRAIN, '--work-dir', folder / 'first', '--cfg-options', *SMALL,
             f'train_dataloader.dataset.data_root={images}')  # fmt: skip
    return folder / 'first'


def test_one_page_of_curves_and_pictures(run, monkeypatch, capsys):
    call(monkeypatch, 'plot', run, '--images', 4)
    printed = capsys.readouterr().out
    for level in range(4):
        assert re.search(rf'level {level}: \d+ of \d+ tiles find their own among 4', printed)
    page = (run / 'run.html').read_text()
    (encoded,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(encoded) == (run / 'run.png').read_bytes()
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched
    scalars = read_scalars(run)
    for level in range(4):
        first, last = (
            (s[f'rank_q_level_{level}'] + s[f'rank_k_level_{level}']) / 2 for s in scalars
        )
        title = f'effective rank of embeddings, level {level}'
        assert f'<td>{title}</td><td>{first:.4g} → {last:.4g}</td>' in page
    picture = cv2.imread(str(run / 'run.png'))
    assert picture.shape[0] > 9 * 110 + 600  # the curves, then sheets and neighbours
    assert picture[-500:].std() > 20


def test_pictures_show_the_same_images_every_time(run):
    cfg = Config.fromfile(next(run.glob('*/vis_data/config.py')))
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        first, again, other = (build_montage(cfg, 4, seed) for seed in (1, 1, 2))
    for side, same, different in zip(first, again, other):
        for level in range(4):
            assert side.sheets[level].equal(same.sheets[level])
            assert side.sources[level].equal(same.sources[level])
        assert not side.sheets[0].equal(different.sheets[0])


def test_runs_are_compared_in_the_same_axes(run, monkeypatch, tmp_path, capsys):
    other = tmp_path / 'second'
    write(other, '1', [dict(step=s, loss=s / 7, knn_acc=0.25) for s in (1, 2)])
    call(monkeypatch, 'plot', run, other, '--out', tmp_path / 'page', '--images', 0)
    page = (tmp_path / 'page/run.html').read_text()
    assert re.search(r'<th>first<br>to iteration 2</th><th>second<br>to iteration 2</th>', page)
    assert re.search(r'<td>loss</td><td>[\d.]+ → [\d.]+</td><td>0.1429 → 0.2857</td>', page)
    assert '<td>k-NN probe, accuracy</td><td></td><td>0.25 → 0.25</td>' in page
    assert cv2.imread(str(tmp_path / 'page/run.png')).std() > 5


def test_axes_hold_what_was_logged():
    scalars = [{'step': s, 'loss': s / 7, 'acc_q_level_2': 0.5, 'knn_chance': 0.1} for s in (3, 6)]
    figure = plt.figure()
    draw_curves(figure, dict(a=scalars, b=[dict(step=4, loss=9.0, knn_acc=0.3)]))
    axes = {ax.get_title(): ax for ax in figure.axes}
    assert set(axes) == {'loss', 'tiles that find their own image', 'k-NN probe, accuracy'}
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes['loss'].lines}
    assert lines == dict(a=[[3, 3 / 7], [6, 6 / 7]], b=[[4, 9]])
    (line,) = axes['tiles that find their own image'].lines
    assert (line.get_label(), line.get_ydata().tolist()) == ('a', [0.5, 0.5])
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {'a', 'b', 'level 2'}
    colours = {line.get_color() for line in axes['loss'].lines}
    assert len(colours) == 2
    plt.close(figure)


def test_without_weights_or_data_the_reason_is_said(run, monkeypatch, tmp_path, capsys):
    bare = tmp_path / 'bare'
    write(bare, '1', [dict(step=1, loss=1.0)])
    call(monkeypatch, 'plot', bare)
    assert 'No pictures of' in (bare / 'run.html').read_text()
    (run / 'iter_2.pth').rename(tmp_path / 'iter_2.pth')
    call(monkeypatch, 'plot', run, '--out', bare)
    assert re.search(r'No pictures of .*: no checkpoint at .*iter_2\.pth', capsys.readouterr().out)
    (tmp_path / 'iter_2.pth').rename(run / 'iter_2.pth')
    (run.parent / 'images').rename(tmp_path / 'moved')
    call(monkeypatch, 'plot', run, '--out', bare)
    assert re.search(r'No pictures of .*: .*no image folder at', capsys.readouterr().out)
    (tmp_path / 'moved').rename(run.parent / 'images')


def test_a_folder_without_a_run(monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as error:
        call(monkeypatch, 'plot', tmp_path)
    assert re.match('FileNotFoundError: no .*scalars.json with values', error.value.code)
