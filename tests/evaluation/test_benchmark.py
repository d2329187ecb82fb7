"""What a benchmark measures is what it says, and its output keeps its shape."""

import json
import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.connection import wait
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from conftest import ROOT, call_tool, draw_images
from mcl_mm.evaluation import benchmark
from mcl_mm.evaluation.benchmark_report import ROWS
from mcl_mm.evaluation.timing import PARTS, Candidate, measure
from processes import CONTEXT

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
    with mock.patch.dict(os.environ):
        call_tool(monkeypatch, 'benchmark', *arguments)


def test_a_recipe_and_the_reference_take_turns(work, monkeypatch, capfd):
    """Each turn is a process of its own: the first is started as users have it, the second forked."""
    kinds = ['forkserver', 'spawn']
    monkeypatch.setattr(benchmark, 'get_context', lambda kind: get_context(kinds.pop()))
    call(
        monkeypatch, work / 'mcl_r50_100e_fast.py', '--reference',
        '--batch-size', 4, '--side', 64, '--steps', 2, '--rounds', 1, '--threads', 1,
        '--images', work / 'images', '--profile', work / 'profile', '--json',
        '--cfg-options', 'model.joint=all',
    )  # fmt: skip
    assert kinds == []
    report = json.loads(capfd.readouterr().out)
    expected = dict(schema=2, steps=2, threads=1, torch=torch.__version__)
    assert expected.items() <= report.items()
    names = [candidate['name'] for candidate in report['candidates']]
    assert names == ['mcl_r50_100e_fast_reference', 'mcl_r50_100e_fast']
    keys = {key for key, *_ in ROWS}
    for candidate in report['candidates']:
        (values,) = candidate['rounds']
        assert set(values) == set(candidate['values']) == keys
        assert (candidate['batch_size'], candidate['side']) == (4, 64)
        shares = [values[f'{part}_share'] for part in PARTS]
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


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_forced_precision_reaches_the_step_and_the_bare_backbone(work, dtype):
    """Also on a CPU without instructions for it."""
    cfg = Config.fromfile(work / 'mcl_r50_100e_fast.py')
    names = [path.name for path in (work / 'images').iterdir()]
    (work / 'listed.txt').write_text('\n'.join(names[:4]))
    benchmark.prepare(
        cfg, 4, 64, str(work / 'images'), str(work / 'listed.txt'), {'optim_wrapper.dtype': dtype}
    )
    found = {}

    def note(module, _, output):
        if isinstance(module, torch.nn.Conv2d):
            found.setdefault(output.dtype, []).append(output.requires_grad)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        with DefaultScope.overwrite_default_scope('mmengine'):
            values = measure(Candidate('recipe', cfg, 4, 64), steps=1)
    finally:
        hook.remove()
    assert list(found) == [getattr(torch, dtype)]
    assert {True, False} == set(found[getattr(torch, dtype)])  # online network and target
    assert all(values[name] > 0 for name in ('step_rate', 'backbone_rate', 'end_to_end_rate'))


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
         '--side', 64, 96, '--images', work / 'images', '--json',
         '--cfg-options', 'model.joint=all')  # fmt: skip
    candidates = json.loads(capsys.readouterr().out)['candidates']
    sizes = [(32, 64), (32, 96), (64, 64), (64, 96)]
    assert [(c['batch_size'], c['side']) for c in candidates] == sizes
    assert [c['name'] for c in candidates] == [
        f'mcl_r50_100e_fast_batch{batch}_side{side}' for batch, side in sizes
    ]
    costs = [c['rounds'][0]['multiply_adds'] for c in candidates]
    assert costs[0] == pytest.approx(costs[2], rel=0.01)
    assert costs[1] / costs[0] == pytest.approx(1.5**2, rel=0.05)


def test_processes_get_the_settings_of_the_allocator(monkeypatch):
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '123')
    monkeypatch.delenv('MALLOC_MMAP_MAX_', raising=False)
    monkeypatch.setenv('TWO_LINES', 'one\ntwo=three')
    settings = benchmark.allocator_settings()
    names = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_MAX_', 'TWO_LINES')
    assert [settings[name] for name in names] == ['123', '0', 'one\ntwo=three']


def measure_forever():
    benchmark.set_up_process(None)
    time.sleep(600)


def start_measuring(connection):
    """A command's part: start a process that measures, and say which; the ends say who lives."""
    child = get_context('fork').Process(target=measure_forever)
    child.start()
    connection.send(child.pid)
    child.join()


def test_the_measuring_process_ends_with_a_killed_command():
    here, there = CONTEXT.Pipe()
    command = CONTEXT.Process(target=start_measuring, args=(there,))
    command.start()
    measuring = os.pidfd_open(here.recv())
    os.kill(command.pid, signal.SIGTERM)
    command.join()
    assert wait([measuring], timeout=60) == [measuring]


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


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{work}/mcl_r50_100e.py', '--batch-size', 1], '--batch-size must be at least 2, got 1'),
        (['{work}/mcl_r50_100e.py', '--rounds', -1], '--rounds must be at least 0'),
        (['{work}/mcl_r50_100e.py', '--side', 80], '--side must be a multiple of 32 pixels, got 80'),
        (['{work}/mcl_r50_100e.py', '--images', '/nowhere'], 'no image folder at /nowhere'),
        (['{work}/mcl_r50_100e.py', '--images', '{work}/empty'], 'no image in .*empty'),
        (['{work}/nothing.py'], 'nothing.py'),
        (['{work}/mcl_r50_100e_fast.py', '--reference'], '--reference needs a first config that is an MCL'),
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
