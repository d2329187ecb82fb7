"""Comparing pre-trainings: others as mmpretrain has them, fair shares, real runs at a tiny size."""

import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.structures import DataSample

from conftest import ROOT, call_tool, draw_images
from mcl_mm.config import find_config
from mcl_mm.evaluation import compare_pretrain, runs
from mcl_mm.evaluation.compare_pretrain import table
from mcl_mm.evaluation.cost import multiply_adds_of_peer
from mcl_mm.evaluation.ledger import read_ledger
from mcl_mm.evaluation.methods import RANDOM, Method, check, prepare, stretch_all
from mcl_mm.registry import MODELS
from mcl_mm.transfer import read_checkpoint, to_mmdet
from processes import fork_but_the_first
from tiny_datasets import write_voc

PEERS = {
    'mocov2': 'mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py',
    'densecl': 'densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py',
    'byol': 'byol/byol_resnet50_16xb256-coslr-200e_in1k.py',
}
NETWORKS = {
    'pretrain': """model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8),
    head=dict(in_channels=8, hid_channels=16),
)""",
    'mocov2': """model = dict(
    queue_len=16,
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=64, hid_channels=16),
)""",
}


def plain(value):
    """A config's part without the scopes of its types."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.split('.')[-1] if isinstance(value, str) else value


@pytest.mark.parametrize('name', PEERS)
def test_peers_are_those_of_mmpretrain(name):
    ours = Config.fromfile(ROOT / f'configs/peers/{name}_r50_100e.py')
    theirs = get_config(f'mmpretrain::{PEERS[name]}')
    model = plain(ours.model)
    pixels = model.pop('data_preprocessor')
    assert (pixels['mean'], pixels['std'], pixels['bgr_to_rgb']) == (
        theirs.data_preprocessor.mean,
        theirs.data_preprocessor.std,
        theirs.data_preprocessor.to_rgb,
    )
    expected = plain(theirs.model.to_dict())
    if name == 'byol':  # here synchronised by `sync_bn`, as soon as there is more than one process
        assert expected['backbone'].pop('norm_cfg') == dict(type='SyncBN')
        assert model['backbone'].pop('norm_cfg') == dict(type='BN')
        assert ours.sync_bn == 'torch'
    assert model == expected
    assert plain(ours.optim_wrapper.optimizer) == plain(theirs.optim_wrapper.optimizer)
    assert ours.optim_wrapper.get('paramwise_cfg') == theirs.optim_wrapper.get('paramwise_cfg')
    assert ours.auto_scale_lr.base_batch_size == theirs.auto_scale_lr.base_batch_size
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    assert ours.get('find_unused_parameters') == theirs.get('find_unused_parameters')


@pytest.mark.parametrize('name', PEERS)
def test_peers_see_the_images_and_views_of_an_mcl_run(name):
    for ours, base in ((f'peers/{name}_r50_100e', 'mcl_r50_100e'),
                       (f'quickstart/{name}', 'quickstart/pretrain_published')):  # fmt: skip
        ours, base = (Config.fromfile(ROOT / f'configs/{path}.py') for path in (ours, base))
        data, reference = ours.train_dataloader.dataset, base.train_dataloader.dataset
        assert (data.type, data.data_root) == (reference.type, reference.data_root)
        views, all_views = data.pipeline[1], reference.pipeline[1]
        assert views.transforms == all_views.transforms
        assert (views.num_views, all_views.num_views) == ([1, 1], [4, 4])
        assert ours.train_cfg == base.train_cfg
    assert ours.train_dataloader.batch_size == base.train_dataloader.batch_size
    assert ours.optim_wrapper == base.optim_wrapper
    assert ours.param_scheduler == base.param_scheduler
    backbone = {k: base.model.backbone[k] for k in ('depth', 'stem_channels', 'base_channels')}
    assert {key: ours.model.backbone[key] for key in backbone} == backbone


def test_the_supervised_peer_is_that_of_mmpretrain_on_views_of_both_sides():
    ours = Config.fromfile(ROOT / 'configs/peers/supervised_r50_100e.py')
    theirs = get_config('mmpretrain::resnet/resnet50_8xb32_in1k.py')
    model = plain(ours.model)
    assert model.pop('data_preprocessor') == plain(
        dict(theirs.data_preprocessor, type='ClsDataPreprocessor')
    )
    expected = plain(theirs.model.to_dict())
    expected['backbone'] = {
        k: expected['backbone'][k] for k in model['backbone']
    }  # the rest: defaults
    assert model == expected
    assert plain(ours.optim_wrapper.optimizer) == plain(theirs.optim_wrapper.optimizer)
    assert plain(ours.param_scheduler[0]) == plain(theirs.param_scheduler)
    for path, base in (('peers/supervised_r50_100e', 'mcl_r50_100e'),
                       ('quickstart/supervised', 'quickstart/pretrain_published')):  # fmt: skip
        cfg, base = (Config.fromfile(ROOT / f'configs/{name}.py') for name in (path, base))
        views = base.train_dataloader.dataset.pipeline[1].transforms
        assert cfg.train_dataloader.dataset.pipeline[1].transforms == views
        assert cfg.train_dataloader.dataset.type == 'LabelledImages'
        assert cfg.train_cfg == base.train_cfg


@pytest.mark.parametrize(
    ('name', 'giga'), [('mocov2', 16.3), ('densecl', 18.0), ('byol', 32.5), ('supervised', 12.1)]
)
def test_costs_are_those_counted_elsewhere(name, giga):
    model = Config.fromfile(ROOT / f'configs/peers/{name}_r50_100e.py').model
    view = torch.zeros(3, 224, 224, dtype=torch.uint8)
    views = view if name == 'supervised' else [view, view]
    sample = dict(inputs=views, data_samples=DataSample().set_gt_label(0))
    cost = multiply_adds_of_peer(model, [sample] * 2)
    assert cost / 1e9 == pytest.approx(giga, abs=0.05)


@pytest.mark.parametrize('length', [0.001, 0.02, 0.05])
def test_every_phase_of_a_short_run_lasts_an_iteration_at_least(length):
    """Or MMEngine refuses it, after other runs were paid for."""
    cfg = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py')
    iterations = cfg.train_cfg.max_iters
    short = Method('mcl', cfg, 1, iterations * 64).stretch(length).cfg
    assert short.train_cfg.max_iters == max(1, round(iterations * length))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for scheduler in short.param_scheduler:
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        assert scheduler['end'] > scheduler['begin']


@pytest.mark.parametrize('name', ['quickstart/pretrain', 'peers/byol_r50_100e'])
@pytest.mark.parametrize('factor', [0.5, 3])
def test_a_stretched_run_has_the_same_schedule(name, factor):
    """The rate after any share of the run is what it was."""

    def rates(cfg):
        epochs = 'max_epochs' in cfg.train_cfg
        length = cfg.train_cfg.max_epochs * 10 if epochs else cfg.train_cfg.max_iters
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedulers = [
            PARAM_SCHEDULERS.build(dict(s), default_args=dict(optimizer=optimizer, epoch_length=10))
            for s in cfg.param_scheduler
        ]
        series = []
        for _ in range(length):
            series.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        return series

    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    stretched = Method(name, cfg, 1, 100).stretch(factor)
    assert stretched.images == 100 * factor
    before, after = rates(cfg), rates(stretched.cfg)
    assert len(after) == factor * len(before)
    for share in (0.2, 0.5, 0.8, 0.95):
        old, new = before[int(share * len(before))], after[int(share * len(after))]
        assert new == pytest.approx(old, rel=0.02)
    saves, saved = (c.default_hooks.checkpoint for c in (stretched.cfg, cfg))
    assert (saves.interval, saves.max_keep_ckpts) == (max(1, round(saved.interval * factor)), 1)


def test_a_run_of_a_constant_rate_and_without_checkpoints_can_be_stretched():
    cfg = Config(dict(train_cfg=dict(max_epochs=10)))
    stretched = Method('mine', cfg, 1, 100).stretch(2)
    assert (
        stretched.cfg.train_cfg.max_epochs == stretched.cfg.default_hooks.checkpoint.interval == 20
    )


def test_table_and_its_units():
    rows = {
        RANDOM: dict(metrics=[{'coco/bbox_mAP': 0.1}, {'coco/bbox_mAP': 0.3}]),
        'mcl': dict(
            metrics=[{'coco/bbox_mAP': 0.5}, {'coco/bbox_mAP': 0.5}],
            images_per_second=[10.0, 20.0],
            images=3000,
            cost=2e9,
        ),
    }
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table(rows).splitlines()]
    assert lines[2] == [RANDOM, '0.200 ± 0.141', '', '', '', '']
    assert lines[3] == ['mcl', '0.500 ± 0.000', '3,000', '2', '6', '15']


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """Configs of two methods and of a detector, and data for both."""
    folder = tmp_path_factory.mktemp('work')
    draw_images(folder / 'images', 8)
    for name, network in NETWORKS.items():
        (folder / f'{name}.py').write_text(
            f'_base_ = {str(ROOT / f"configs/quickstart/{name}.py")!r}\n{network}\n'
            'train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)\n'
            'train_cfg = dict(max_iters=2)\n'
            'default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))\n'
        )
    write_voc(folder / 'voc')
    loader = (
        "dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(ann_file='{}', "
        f'data_root={str(folder / "voc/VOC2007") + "/"!r}, metainfo=dict(classes=classes)))'
    )
    base = str(ROOT / 'configs/quickstart/retinanet_bccd.py')
    (folder / 'detector.py').write_text(
        f"_base_ = {base!r}\nclasses = ('aeroplane', 'bicycle', 'bird')\n"
        'model = dict(backbone=dict(stem_channels=8, base_channels=8), '
        'neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, '
        "norm_cfg=dict(type='MMSyncBN')), "  # which one process cannot build
        'bbox_head=dict(in_channels=8, feat_channels=8))\n'
        f'train_dataloader = {loader.format("ImageSets/Main/trainval.txt")}\n'
        f'val_dataloader = {loader.format("ImageSets/Main/test.txt")}\n'
        'train_cfg = dict(max_epochs=1, val_interval=1)\n'
        'default_hooks = dict(logger=dict(interval=1))\n'
    )
    return folder


def compare(monkeypatch, *arguments):
    call_tool(monkeypatch, 'compare_pretrain', *arguments)


def opened(path, images, gpus=1):
    return prepare(Config.fromfile(path), path.stem, str(images), gpus)


def test_runs_are_real_and_not_repeated(work, monkeypatch, capsys):
    methods = [work / f'{name}.py' for name in NETWORKS]
    ledger = work / 'runs.jsonl'
    arguments = ['--methods', *methods, '--data', work / 'images', '--detector',
                 work / 'detector.py', '--seeds', 1, '--ledger', ledger,
                 '--work-dir', work / 'out']  # fmt: skip
    fork_but_the_first(monkeypatch, runs, compare_pretrain)
    compare(monkeypatch, *arguments)
    report = json.loads((work / 'out/comparison.json').read_text())
    assert list(report['results']) == [RANDOM, 'pretrain', 'mocov2']
    assert (report['data'], report['equal']) == (str(work / 'images'), 'images')
    for name, row in report['results'].items():
        assert 0 <= row['metrics'][0]['pascal_voc/mAP'] <= 1
        log = (work / f'out/{name}-0/finetune/train.log').read_text()
        # The detector got a backbone, MCL's pyramid with it, or nothing.
        assert ('backbone.layer4' in log) == (name != RANDOM)
    assert report['results']['mocov2']['images'] == 16
    assert (work / 'out/comparison.png').stat().st_size > 1000
    weights = read_checkpoint(work / 'out/mocov2-0/export.pth')['state_dict']
    assert {key.split('.')[0] for key in weights} == {'backbone'}

    entries = {e.get('method', e.get('start')): e for e in read_ledger(ledger)}
    kinds = [(e['kind'], e.get('method', e.get('start'))) for e in read_ledger(ledger)]
    assert kinds == [('finetune', RANDOM), ('pretrain', 'pretrain'), ('finetune', 'pretrain'),
                     ('pretrain', 'mocov2'), ('finetune', 'mocov2')]  # fmt: skip
    before = read_ledger(ledger)[3]
    assert entries['mocov2']['origin']['pretraining'] == before['identity']
    assert before['multiply_adds'] == 16 * report['results']['mocov2']['cost']
    assert (before['images_seen'], before['train']['images']) == (16, 8)

    # Neither weights nor folders are needed to know what is finished.
    shutil.rmtree(work / 'out')
    capsys.readouterr()
    compare(monkeypatch, *arguments)
    assert capsys.readouterr().out.count('finished earlier') == 3
    assert not list(work.glob('out/*/*/train.log'))
    assert json.loads((work / 'out/comparison.json').read_text()) == report


def test_equal_compute_is_equal(work, monkeypatch):
    """The cheaper method trains longer, to within half an update of the same multiply-adds."""
    trained, seeds = {}, []

    def pretrain(method, seed, *_):
        trained[method.name] = method
        seeds.append(seed)
        return 1.0

    monkeypatch.setattr(compare_pretrain, 'pretrain', pretrain)
    monkeypatch.setattr(compare_pretrain, 'finetune', lambda *_: {'coco/bbox_mAP': 0.5})
    methods = [work / f'{name}.py' for name in NETWORKS]
    compare(monkeypatch, '--methods', *methods, '--data', work / 'images', '--detector',
            work / 'detector.py', '--seeds', 2, '--first-seed', 5, '--equal', 'compute',
            '--length', 3, '--work-dir', work / 'equal')  # fmt: skip
    report = json.loads((work / 'equal/comparison.json').read_text())
    assert seeds == [5, 5, 6, 6]
    assert report['seeds'] == [5, 6]
    mcl, moco = trained.values()
    assert mcl.cfg.train_cfg.max_iters == 3 * 2 < moco.cfg.train_cfg.max_iters
    assert moco.images == moco.cfg.train_cfg.max_iters * 8
    assert abs(moco.images * moco.cost - mcl.images * mcl.cost) <= moco.cost * 8 / 2


def test_equal_compute_takes_methods_of_any_batch_and_length():
    cfg = Config.fromfile(find_config('quickstart/pretrain'))
    half_batch = Method('half_batch', cfg, 3, 240 * 32)
    for method in stretch_all([Method('first', cfg, 3, 240 * 64), half_batch], 2, 'compute'):
        assert method.images == 2 * 240 * 64
    assert method.cfg.train_cfg.max_iters == 960


def test_unfair_or_useless_comparisons_are_refused(work):
    first, other = (opened(work / f'{name}.py', work / 'images') for name in NETWORKS)
    detector = Config.fromfile(work / 'detector.py')
    check([first, other], detector, 'images')
    with pytest.raises(ValueError, match='different names'):
        check([first, first], detector, 'images')
    with pytest.raises(ValueError, match='equally many images.*mocov2 32'):
        check([first, other._replace(images=32)], detector, 'images')
    check([first, other._replace(images=32)], detector, 'compute')
    detector.model.backbone.depth = 34
    with pytest.raises(
        ValueError, match='pretrain does not fit the detector: the backbones differ'
    ):
        check([first, other], detector, 'images')
    with pytest.raises(ValueError, match='not a config of pre-training'):
        opened(work / 'detector.py', work / 'images')
    with pytest.raises(FileNotFoundError, match='no image folder'):
        opened(work / 'mocov2.py', work / 'nowhere')
    for name in ('ants', 'bees'):
        draw_images(work / 'labelled' / name, 4)
    supervised = ROOT / 'configs/quickstart/supervised.py'
    with pytest.raises(ValueError, match='2 classes, the model 1000: set model.head.num_classes=2'):
        opened(supervised, work / 'labelled')


def test_a_peer_exports_its_backbone_and_a_detector_is_no_peer():
    model = Config.fromfile(ROOT / 'configs/quickstart/byol.py').model
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        state_dict = MODELS.build(model).state_dict()
    weights = to_mmdet(state_dict)
    assert weights.keys() == {key for key in state_dict if key.startswith('backbone.')}
    with pytest.raises(ValueError, match='not an mcl_mm pre-training checkpoint'):
        to_mmdet({**weights, 'neck.lateral_convs.0.conv.weight': torch.ones(1)})
