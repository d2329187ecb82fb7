"""The page of a run: resumed runs are one curve, the numbers are those logged."""

import base64
import json
import re

import cv2
import matplotlib.pyplot as plt
import pytest
from browse_montage import build_montage
from mmengine.config import Config
from mmengine.registry import DefaultScope
from plot_run import curves, draw_curves, draw_neighbours, read_scalars
from test_tools import PRETRAIN, SMALL, call

from conftest import draw_images
from mcl_mm.models.montage import Montage


def write(run, name, lines):
    folder = run / name / 'vis_data'
    folder.mkdir(parents=True)
    text = '\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / 'scalars.json').write_text(text)


def test_a_resumed_run_is_one_curve(tmp_path):
    """Killed after iteration 35, resumed at 20, killed while writing; 25 to 35 count once."""
    write(tmp_path, '20260101_000000', [dict(step=s, loss=float(s)) for s in range(5, 40, 5)])
    resumed = [dict(step=s, loss=100.0 + s) for s in range(25, 50, 5)]
    write(tmp_path, '20260102_000000', [*resumed, '{"step": 50, "lo'])
    (tmp_path / '20260103_000000/vis_data').mkdir(parents=True)
    (tmp_path / '20260103_000000/vis_data/scalars.json').touch()  # died before its first line
    scalars = read_scalars(tmp_path)
    assert [s['step'] for s in scalars] == list(range(5, 50, 5))
    assert [s['loss'] for s in scalars] == [5, 10, 15, 20, 125, 130, 135, 140, 145]


def test_a_run_started_anew_replaces_the_old_one(tmp_path):
    write(tmp_path, '1', [dict(step=s, loss=1.0) for s in (5, 10, 15)])
    write(tmp_path, '2', [dict(step=5, loss=2.0)])
    assert [(s['step'], s['loss']) for s in read_scalars(tmp_path)] == [(5, 2.0)]


def test_curves_are_means_of_the_sides():
    scalars = [
        dict(step=5, acc_q_level_0=0.1, acc_k_level_0=0.3, acc_q_level_1=0.5, acc_k_level_1=0.5),
        dict(step=7, knn_acc=0.9),
        dict(step=10, acc_q_level_0=0.2, acc_k_level_0=0.2, acc_gap=7.0, lr=0.01),
    ]
    found = curves(scalars, 'acc')
    assert {level: points[0] for level, points in found.items()} == {'0': [5, 10], '1': [5]}
    assert found['0'][1] == pytest.approx([0.2, 0.2])
    assert found['1'][1] == [0.5]
    assert curves(scalars, 'lr') == {'': ([10], [0.01])}
    assert curves(scalars, 'knn_acc') == {'': ([7], [0.9])}
    assert curves(scalars, 'std') == {}


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
    call(monkeypatch, 'plot_run', run, '--images', 4)
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
    call(monkeypatch, 'plot_run', run, other, '--out', tmp_path / 'page', '--images', 0)
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
    call(monkeypatch, 'plot_run', bare)
    assert 'No pictures of' in (bare / 'run.html').read_text()
    (run / 'iter_2.pth').rename(tmp_path / 'iter_2.pth')
    call(monkeypatch, 'plot_run', run, '--out', bare)
    assert re.search(r'No pictures of .*: no checkpoint at .*iter_2\.pth', capsys.readouterr().out)
    (tmp_path / 'iter_2.pth').rename(run / 'iter_2.pth')
    (run.parent / 'images').rename(tmp_path / 'moved')
    call(monkeypatch, 'plot_run', run, '--out', bare)
    assert re.search(r'No pictures of .*: .*no image folder at', capsys.readouterr().out)
    (tmp_path / 'moved').rename(run.parent / 'images')


def test_a_folder_without_a_run(monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as error:
        call(monkeypatch, 'plot_run', tmp_path)
    assert re.match('FileNotFoundError: no .*scalars.json with values', error.value.code)
