"""What tools/benchmark.py measures is what it says, and its output keeps its shape."""

import json
import os
import subprocess
import sys
import time
from unittest import mock

import benchmark
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

from conftest import ROOT, draw_images

RECIPES = [ROOT / f'configs/mcl_r50_100e{variant}.py' for variant in ('', '_fast')]
NETWORK = """
_base_ = {base!r}
model = dict(
    backbone=dict(depth=18, stem_channels=16, base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=16, hid_channels=32, embed_channels=16),
    head=dict(in_channels=16, hid_channels=32),
)
train_dataloader = dict(num_workers=0, persistent_workers=False)
"""


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """The published and the fast recipe with a small network, a bad config and a few images."""
    folder = tmp_path_factory.mktemp('work')
    for recipe in RECIPES:
        (folder / recipe.name).write_text(NETWORK.format(base=str(recipe)))
    draw_images(folder / 'images', 5)
    (folder / 'empty').mkdir()
    return folder


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['tools/benchmark.py', *map(str, arguments)])
    with mock.patch.dict(os.environ), DefaultScope.overwrite_default_scope('mmengine'):
        benchmark.main()


def test_a_recipe_and_the_reference_take_turns(work):
    """The command as a user calls it; each turn is a process of its own."""
    command = [
        sys.executable, 'tools/benchmark.py', work / 'mcl_r50_100e_fast.py', '--reference',
        '--batch-size', 4, '--side', 64, '--steps', 2, '--rounds', 1, '--threads', 1,
        '--images', work / 'images', '--profile', work / 'profile', '--json',
        '--cfg-options', 'model.joint=all',
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    expected = dict(schema=2, steps=2, threads=1, torch=torch.__version__)
    assert expected.items() <= report.items()
    names = [candidate['name'] for candidate in report['candidates']]
    assert names == ['mcl_r50_100e_fast_reference', 'mcl_r50_100e_fast']
    keys = {key for key, *_ in benchmark.ROWS}
    for candidate in report['candidates']:
        (values,) = candidate['rounds']
        assert set(values) == set(candidate['values']) == keys
        assert (candidate['batch_size'], candidate['side']) == (4, 64)
        shares = [values[f'{part}_share'] for part in benchmark.PARTS]
        assert sum(shares) == pytest.approx(1)
        assert min(shares) >= 0
        assert 0 < values['data_share'] < 1
        assert 0.1 < values['peak_memory'] < 8  # GiB; PyTorch alone takes some hundred MiB
    reference, dense = (candidate['rounds'][0] for candidate in report['candidates'])
    assert reference['multiply_adds'] > 1.05 * dense['multiply_adds']
    for key, ratio in report['candidates'][1]['ratios'].items():
        assert ratio['median'] == pytest.approx(dense[key] / reference[key])
    for name in names:
        assert 'aten::convolution_backward' in (work / f'profile/{name}.txt').read_text()
        trace = json.loads((work / f'profile/{name}.json').read_text())
        assert {'montage', 'EMA'} <= {event.get('name') for event in trace['traceEvents']}


@pytest.fixture
def small_step(tiny_config, build, views):
    """Makes a model, its optimiser and a batch, always the same."""

    def make():
        model = build(tiny_config).train()
        return (
            model,
            OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)),
            dict(inputs=views(8)),
        )

    return make


def test_no_round_only_counts(work, monkeypatch, capsys):
    call(monkeypatch, work / 'mcl_r50_100e.py', '--rounds', 0, '--batch-size', 4, '--reference')
    rows = [line.split('|')[1:-1] for line in capsys.readouterr().out.splitlines() if '|' in line]
    names = ['mcl_r50_100e_reference', 'mcl_r50_100e']
    assert [cell.strip() for cell in rows[0]] == ['', *names]
    assert [row[0].strip() for row in rows[2:]] == [
        'multiply-adds an image, G',
        '- times the first',
    ]
    assert float(rows[2][1]) > float(rows[2][2]) > 0


def test_a_recipe_takes_turns_at_several_sizes(work, monkeypatch, capsys):
    """Each at its own size: of whole sheets only the side changes the cost of an image."""
    call(monkeypatch, work / 'mcl_r50_100e_fast.py', '--rounds', 0, '--batch-size', 32, 64,
         '--side', 64, 96, '--images', work / 'images', '--json')  # fmt: skip
    candidates = json.loads(capsys.readouterr().out)['candidates']
    sizes = [(32, 64), (32, 96), (64, 64), (64, 96)]
    assert [(c['batch_size'], c['side']) for c in candidates] == sizes
    assert [c['name'] for c in candidates] == [
        f'mcl_r50_100e_fast_batch{batch}_side{side}' for batch, side in sizes
    ]
    costs = [c['rounds'][0]['multiply_adds'] for c in candidates]
    assert costs[0] == pytest.approx(costs[2], rel=0.01)
    assert costs[1] / costs[0] == pytest.approx(1.5**2, rel=0.05)


def test_watching_a_step_leaves_it_as_it_is(small_step):
    """Losses, weights and target are those of an unwatched step, and every part is seen."""
    results = []
    for watched in (False, True):
        model, wrapper, batch = small_step()
        stopwatch = benchmark.Stopwatch()
        if watched:
            benchmark.watch_parts(model, wrapper, stopwatch)
        torch.manual_seed(1)
        results.append((benchmark.train_step(model, wrapper, batch), model.state_dict()))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert {part: len(spans) for part, spans in stopwatch.spans.items()} == {
        'montage': 1, 'online': 2, 'target': 2, 'loss': 2, 'backward': 1, 'optimiser': 2, 'EMA': 1,
    }  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU PyTorch counts')
def test_peak_memory_is_what_a_step_has_in_use():
    """Not what earlier ones left: many blocks of a size that glibc keeps."""
    before = benchmark.peak_memory(lambda: None)
    left = [torch.ones(2**20 * 4 // 4) for _ in range(64)]  # 4 MiB each
    del left
    nothing, quarter = (
        benchmark.peak_memory(step) / 2**30
        for step in (lambda: None, lambda: torch.ones(64 * 2**20))
    )
    assert abs(nothing - before / 2**30) < 0.05
    assert quarter - nothing == pytest.approx(0.25, abs=0.03)


def test_the_target_moves_only_with_an_update(small_step):
    """With accumulation, two steps in three end without."""
    model, _, batch = small_step()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 3)
    stopwatch = benchmark.Stopwatch()
    benchmark.watch_parts(model, wrapper, stopwatch)
    for _ in range(3):
        benchmark.train_step(model, wrapper, batch)
    assert [len(stopwatch.spans[part]) for part in ('backward', 'EMA')] == [3, 1]


def test_the_reference_has_the_losses_of_the_dense_step(small_step):
    """It computes more in the target, and throws that away."""
    results, projected = [], []
    for reference in (False, True):
        model, _, batch = small_step()
        if reference:
            benchmark.compute_like_the_authors(model)
        cells = []
        model.target.neck.projector.register_forward_hook(
            lambda _, args, output, cells=cells: cells.append(len(args[0]))
        )
        torch.manual_seed(1)
        results.append(model.loss(model.data_preprocessor(batch)['inputs']))
        projected.append(cells)
    torch.testing.assert_close(*results, rtol=0, atol=0)
    sheets = 8 + 2 + 1 + 1
    assert projected == [[sheets] * 2, [64 * sheets, 16 * sheets, 4 * sheets, sheets] * 2]


def test_stopwatch_adds_up_the_calls():
    stopwatch = benchmark.Stopwatch()
    nap = stopwatch.timed('nap', time.sleep)
    nap(0.05)
    nap(0.15)
    assert 0.2 <= stopwatch.seconds('nap') < 1
    assert stopwatch.seconds('never') == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_stopwatch_times_the_gpu_and_not_the_calls():
    x = torch.randn(4096, 4096, device='cuda')
    stopwatch = benchmark.Stopwatch()
    multiply = stopwatch.timed('multiply', lambda: [x @ x for _ in range(50)])
    multiply()
    stopwatch.spans.clear()
    benchmark.synchronise()
    begin = time.perf_counter()
    multiply()
    benchmark.synchronise()
    assert stopwatch.seconds('multiply') == pytest.approx(time.perf_counter() - begin, rel=0.1)


def test_processes_get_the_settings_of_the_allocator(monkeypatch):
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '123')
    monkeypatch.delenv('MALLOC_MMAP_MAX_', raising=False)
    monkeypatch.setenv('TWO_LINES', 'one\ntwo=three')
    settings = benchmark.allocator_settings()
    names = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_MAX_', 'TWO_LINES')
    assert [settings[name] for name in names] == ['123', '0', 'one\ntwo=three']


def test_summary_and_table():
    """Ratios are taken round by round: a slow round slows both of its turns."""
    keys = [key for key, *_ in benchmark.ROWS]
    rates = [(10, 20), (4, 12), (8, 20)]
    rounds = [
        [
            dict(dict.fromkeys(keys, 0.5), step_rate=rate, EMA_share=share, loss_share=None)
            for rate, share in zip(turn, (None, 0.5))
        ]
        for turn in rates
    ]
    first, second = benchmark.summarise(rounds)
    assert first['values']['step_rate'] == dict(median=8, min=4, max=10)
    assert second['values']['step_rate'] == dict(median=20, min=12, max=20)
    assert first['ratios']['step_rate'] == dict(median=1, min=1, max=1)
    assert second['ratios']['step_rate'] == dict(median=2.5, min=2, max=3)
    assert first['values']['EMA_share'] is None
    assert 'EMA_share' not in first['ratios']
    lines = benchmark.table(['a', 'b'], [first, second]).splitlines()
    assert '| step alone, images/s | 8 (4 to 10) | 20 (12 to 20) |' in lines
    assert '| - times the first | 1.00 | 2.50 (2.00 to 3.00) |' in lines
    assert '| EMA, of the step | - | 50.0% |' in lines
    assert not any('loss, of the step' in line for line in lines)  # nobody's
    assert '| online, of the step | 50.0% | 50.0% |' in lines


def test_side_and_batch_of_both_recipes(work):
    for recipe in RECIPES:
        cfg = Config.fromfile(work / recipe.name)
        assert benchmark.prepare(cfg, 8, None, 'images', 'list.txt') == 224
        assert benchmark.prepare(cfg, 8, 96, 'images', 'list.txt') == 96
        with DefaultScope.overwrite_default_scope('mcl_mm'):
            dataset = cfg.train_dataloader.dataset
            dataset.update(data_root=str(work / 'images'), ann_file='')
            batch = benchmark.DATASETS.build(dataset)[0]['inputs']
        assert batch[0].shape == (3, 96, 96)
        assert cfg.train_dataloader.batch_size == 8


def test_drawn_photos_cost_what_photos_cost(tmp_path):
    """Photographs of COCO, at this size and quality, take 3.1 bits a pixel."""
    benchmark.draw_photos(str(tmp_path), 4)
    sizes = [path.stat().st_size * 8 / (500 * 375) for path in tmp_path.glob('*.jpg')]
    assert len(sizes) == 4
    assert 2.5 < min(sizes) <= max(sizes) < 3.5


def test_images_are_listed_as_often_as_an_epoch_needs(work, tmp_path):
    benchmark.list_images(str(work / 'images'), 12, str(tmp_path / 'list.txt'))
    names = (tmp_path / 'list.txt').read_text().splitlines()
    assert names == [f'{index % 5:04d}.jpg' for index in range(12)]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{work}/mcl_r50_100e.py', '--batch-size', 1], '--batch-size must be at least 2, got 1'),
        (['{work}/mcl_r50_100e.py', '--rounds', -1], '--rounds must be at least 0'),
        (['{work}/mcl_r50_100e.py', '--side', 80], '--side must be a multiple of 32 pixels, got 80'),
        (['{work}/mcl_r50_100e.py', '--images', '/nowhere'], 'no image folder at /nowhere'),
        (['{work}/mcl_r50_100e.py', '--images', '{work}/empty'], 'no image in .*empty'),
        (['{work}/nothing.py'], 'nothing.py'),
        (['{work}/mcl_r50_100e_fast.py', '--reference'], '--reference needs a first config that is not'),
        ([ROOT / 'configs/quickstart/finetune.py'], 'finetune.py is not a config of pre-training'),
        (['{work}/mcl_r50_100e.py', '--cfg-options', 'model.head.loss_weights=(1,1)'],
         'number of levels'),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_clear_error(work, monkeypatch, arguments, message):
    """Before anything is measured."""
    monkeypatch.setattr(benchmark, 'ProcessPoolExecutor', None)
    with pytest.raises(SystemExit, match=message) as error:
        call(monkeypatch, *(str(argument).replace('{work}', str(work)) for argument in arguments))
    assert '\n' not in str(error.value.code)
