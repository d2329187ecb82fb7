"""Comparing starts: real runs at a tiny size, and the arithmetic of the table."""

import json
import re
import shutil

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from conftest import ROOT, call_tool
from mcl_mm.evaluation import compare_transfer, runs
from mcl_mm.evaluation.compare_transfer import plot, table
from mcl_mm.evaluation.ledger import read_ledger
from mcl_mm.evaluation.starts import starts_with_room
from mcl_mm.transfer import to_mmdet
from processes import forked
from tiny_datasets import write_voc

RETINANET = ROOT / 'configs/quickstart/retinanet_bccd.py'
MASK_RCNN = ROOT / 'configs/quickstart/finetune.py'


@pytest.fixture(scope='module')
def export(tmp_path_factory):
    """An export of the quickstart's network with random weights."""
    from mcl_mm.registry import MODELS

    model = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py').model
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        weights = to_mmdet(MODELS.build(model).state_dict())
    path = tmp_path_factory.mktemp('export') / 'export.pth'
    torch.save(dict(state_dict=weights), path)
    return path


def test_starts_are_those_that_differ_for_the_detector(export, capsys):
    with DefaultScope.overwrite_default_scope('mmdet'):
        starts = starts_with_room(Config.fromfile(MASK_RCNN), export)
        assert list(starts) == ['random', 'backbone', '+neck', '+box_head']
        assert starts['+neck'].parts == ('backbone', 'neck')
        assert not capsys.readouterr().out
        assert list(starts_with_room(Config.fromfile(RETINANET), export)) == [
            'random',
            'backbone',
            '+neck',
        ]
        assert 'left out: +box_head' in capsys.readouterr().out
        assert list(starts_with_room(Config.fromfile(RETINANET), export, ['+neck'])) == ['+neck']


def test_table_holds_mean_and_sample_deviation():
    results = {
        'random': [{'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_s': 9}, {'coco/bbox_mAP': 0.3}],
        '+neck': [{'coco/bbox_mAP': 0.5}, {'coco/bbox_mAP': 0.5}],
    }
    lines = table(results).splitlines()
    assert lines[0].split() == ['start', 'coco/bbox_mAP']
    assert lines[1].split() == ['random', '0.200', '±', '0.141']
    assert lines[2].split() == ['+neck', '0.500', '±', '0.000']
    one = {start: runs[:1] for start, runs in results.items()}
    assert table(one).splitlines()[1].split() == ['random', '0.100']


def compare(monkeypatch, *arguments):
    call_tool(monkeypatch, 'compare_transfer', *arguments)


def test_runs_are_real_and_not_repeated(export, tmp_path, monkeypatch, capsys):
    write_voc(tmp_path / 'voc')
    root = tmp_path / 'voc/VOC2007/'
    options = [f'{d}.dataset.data_root={root}' for d in ('train_dataloader', 'val_dataloader')]
    options += [
        'train_dataloader.dataset.ann_file=ImageSets/Main/trainval.txt',
        'val_dataloader.dataset.ann_file=ImageSets/Main/test.txt',
        'train_dataloader.dataset.metainfo.classes=(aeroplane,bicycle,bird)',
        'val_dataloader.dataset.metainfo.classes=(aeroplane,bicycle,bird)',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'default_hooks.logger.interval=1',
        'model.neck.norm_cfg.type=MMSyncBN',  # which one process cannot build
    ]
    ledger = tmp_path / 'evidence/runs.jsonl'
    arguments = [RETINANET, export, '--seeds', 1, '--starts', 'random', '+neck', '--ledger', ledger,
                 '--work-dir', tmp_path / 'out', '--cfg-options', *options]  # fmt: skip
    monkeypatch.setattr(runs, 'call', forked)
    drawn = []
    monkeypatch.setattr(
        compare_transfer,
        'plot',
        lambda results, curves, path: (drawn.append(curves), plot(results, curves, path)),
    )
    compare(monkeypatch, *arguments)
    assert all(step == 1 and loss > 0 for seeds in drawn[0].values() for [(step, loss)] in seeds)
    report = json.loads((tmp_path / 'out/comparison.json').read_text())
    assert list(report['results']) == ['random', '+neck']
    assert report['seeds'] == [0]
    assert all('pascal_voc/mAP' in run for runs in report['results'].values() for run in runs)
    assert cv2.imread(str(tmp_path / 'out/comparison.png')).std() > 5
    logs = {
        start: (tmp_path / f'out/{start}-0/train.log').read_text() for start in ('random', 'neck')
    }
    assert 'Load checkpoint from' not in logs['random']
    # Two images a step, at a rate for eight.
    assert Config.fromfile(tmp_path / 'out/random-0/config.py').auto_scale_lr.enable
    assert re.search(r'neck\.lateral_convs +\d+ +0 ', logs['neck'])
    assert 'finished earlier' not in capsys.readouterr().out

    before = (tmp_path / 'out/neck-0/train.log').stat().st_mtime_ns
    compare(monkeypatch, *arguments)
    assert capsys.readouterr().out.count('finished earlier') == 2
    assert drawn[1] == drawn[0]
    assert (tmp_path / 'out/neck-0/train.log').stat().st_mtime_ns == before
    check_ledger(ledger, report)

    # The folder is lost and the data lies elsewhere: the ledger knows the runs, and other seeds are new.
    shutil.rmtree(tmp_path / 'out')
    shutil.move(tmp_path / 'voc', tmp_path / 'moved')
    arguments = [str(a).replace(f'{tmp_path}/voc', f'{tmp_path}/moved') for a in arguments]
    written = ledger.read_text()
    compare(monkeypatch, *arguments)
    assert capsys.readouterr().out.count('finished earlier') == 2
    assert not list(tmp_path.glob('out/*/train.log'))
    assert json.loads((tmp_path / 'out/comparison.json').read_text()) == report
    assert ledger.read_text() == written


def check_ledger(ledger, report):
    """The lines say what was run and what came out."""
    random, neck = read_ledger(ledger)
    assert (random['start'], neck['start']) == ('random', '+neck')
    assert neck['origin']['parts'] == ['backbone', 'neck']
    assert neck['origin']['weights'] == report['starts']['+neck']['sha256']
    for entry in (random, neck):
        assert [entry['metrics']] == report['results'][entry['start']]
        assert (entry['seed'], entry['images_seen']) == (0, entry['train']['images'])
        assert entry['minutes'] > 0
        assert entry['command'].startswith('mcl-mm compare-transfer ')
    for key in ('config', 'train', 'val'):
        assert random[key] == neck[key]


@pytest.mark.parametrize(
    ('weights', 'options', 'message'),
    [
        ('/nowhere.pth', [], 'FileNotFoundError: no checkpoint at'),
        ('export', ['--seeds', '0'], 'ValueError: --seeds must be a number from 1 to 1000, got 0'),
        ('export', ['--first-seed', '-1'], 'ValueError: --first-seed must be a number from 0 to'),
        ('export', ['--cfg-options', 'model.neck.out_channels=32'], 'ValueError: .*another shape'),
        (None, [], r'ValueError: which weights\? Give an export, or --start NAME=FILE'),
        (None, ['--start', 'mine=/nowhere.pth'], 'FileNotFoundError: no checkpoint at /nowhere.pth'),
        (None, ['--start', 'nowhere.pth'], 'ValueError: --start takes NAME=FILE'),
        (None, ['--start', 'random=x.pth'], 'ValueError: .*another start is called random already'),
        ('export', ['--starts', '+box_head'],
         r'ValueError: none of the starts \+box_head is left: this detector can start from random, backbone'),
        ('export', ['--cfg-options', 'val_evaluator=None', 'val_cfg=None'],
         'ValueError: .*retinanet_bccd.py has no val_evaluator and no val_cfg: a comparison needs'),
    ],
)  # fmt: skip
def test_bad_input(export, tmp_path, monkeypatch, weights, options, message):
    """Before the first run."""
    monkeypatch.setattr('mcl_mm.evaluation.compare_transfer.train', None)
    paths = [export if weights == 'export' else weights] if weights else []
    with pytest.raises(SystemExit) as error:
        compare(monkeypatch, RETINANET, *paths, '--work-dir', tmp_path, *options)
    assert re.match(message, str(error.value.code), re.DOTALL)
