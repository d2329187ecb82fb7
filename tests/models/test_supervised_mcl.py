"""Supervised MCL against slow references, and from folders to an accuracy and a detector."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.structures import DataSample

from conftest import ROOT, build_detector, call_tool, draw_images, tiny_detector
from mcl_mm.evaluation.run_page import pictures as run_pictures
from mcl_mm.models import MultiLevelClassificationHead
from mcl_mm.transfer import check_load, to_mmdet
from mcl_mm.transfer.detector.fit import fit_to_detector
from tiny_runs import TIMEOUT, check_same_run, fault, run, run_two

RECIPE = ROOT / 'configs/mcl_r50_100e_supervised.py'


@pytest.fixture
def supervised(tiny_config):
    tiny_config.update(
        type='mcl_mm.SupervisedMCL',
        head=dict(type='mcl_mm.MultiLevelClassificationHead', num_classes=3, in_channels=8),
    )
    tiny_config['neck']['track_level'] = 0
    return tiny_config


def batch(model, views, count, labels):
    samples = [DataSample().set_gt_label(label) for label in labels]
    data = model.data_preprocessor(dict(inputs=views(count), data_samples=samples))
    return data['inputs'], data['data_samples']


@pytest.mark.parametrize('smooth', [0.0, 0.1])
def test_head_equals_slow_reference(smooth):
    torch.manual_seed(0)
    head = MultiLevelClassificationHead(5, 8, label_smooth_val=smooth)
    embeddings = {level: torch.randn(n, 8) for level, n in enumerate((4, 4, 16, 64))}
    labels = [torch.randint(0, 5, (n,)) for n in (4, 4, 16, 64)]
    scalars = head.loss(embeddings, labels, 'k')
    assert len(scalars) == 8
    for level, weight in enumerate((1 / 2, 1 / 4, 1 / 8, 1 / 8)):
        scores = head.classifiers[level](embeddings[level])
        target = F.one_hot(labels[level], 5) * (1 - smooth) + smooth / 5
        expected = -(target * scores.log_softmax(1)).sum(1).mean() * weight / 2
        torch.testing.assert_close(scalars[f'loss_k_level_{level}'], expected)
        found = (scores.argmax(1) == labels[level]).float().mean()
        assert scalars[f'acc_k_level_{level}'] == found


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_tiles_have_the_labels_of_their_images(supervised, build, views, joint):
    """Classifiers that know the answer lose nothing; with other labels they do."""
    model = build(dict(supervised, joint=joint)).train()
    inputs, samples = batch(model, views, 6, [0, 1, 2, 0, 1, 2])
    answers = torch.tensor([0, 1, 2, 0, 1, 2])

    def embed_tiles(side, levels):
        return {level: F.one_hot(answers[side.sources[level]], 8) * 50.0 for level in levels}

    model.embed_tiles = embed_tiles
    for classifier in model.head.classifiers:
        torch.nn.init.eye_(classifier.weight)
        torch.nn.init.zeros_(classifier.bias)
    scalars = model.loss(inputs, samples)
    for name, value in scalars.items():
        assert value.item() == pytest.approx(float('acc' in name), abs=1e-6), name
    wrong = [DataSample().set_gt_label((label + 1) % 3) for label in answers.tolist()]
    scalars = model.loss(inputs, wrong)
    assert all(value == 0 for name, value in scalars.items() if 'acc' in name)


@pytest.mark.parametrize('early', [False, True])
def test_every_parameter_learns(supervised, build, views, early):
    model = build(dict(supervised, early_backward=early)).train()
    scalars = model.loss(*batch(model, views, 4, [0, 1, 2, 0]))
    model.parse_losses(scalars)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert not any(name.startswith('target') for name in model.state_dict())


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_running_statistics_are_those_of_full_images(supervised, build, views, joint):
    """With a momentum of 1 the projector's are those of level 0's cells, which the same batch meets."""
    model = build(dict(supervised, joint=joint)).train()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.momentum = 1.0
    (q, _), _ = batch(model, views, 8, [0] * 8)
    trained = model.embed_tiles(q)[0]
    assert all(layer.momentum == 1.0 for layer in layers)
    if joint == 'none':  # nothing but full images has moved any statistics
        for layer in layers:  # running ones are unbiased
            layer.eval()
        plain = model.neck(model.backbone(q.sheets[0]), [0])[0]
        assert F.cosine_similarity(plain, trained).mean() > 0.9
    first = model.neck.projector.convs[0].bn
    cells = []
    model.neck.projector.convs[0].conv.register_forward_hook(lambda *args: cells.append(args[2]))
    model.train().embed_tiles(q)
    level_0 = cells[-1] if joint == 'all' else cells[0]
    torch.testing.assert_close(first.running_mean, level_0.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match='at least 2, got 1'):
        MultiLevelClassificationHead(1)
    with pytest.raises(ValueError, match=r'\[0, 1\), got 1'):
        MultiLevelClassificationHead(5, label_smooth_val=1)


def test_recipe_changes_what_labels_need_and_nothing_else():
    ours, base = (
        Config.fromfile(path).to_dict() for path in (RECIPE, ROOT / 'configs/mcl_r50_100e.py')
    )
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr', 'default_hooks'):
        assert ours[key] == base[key]
    assert ours['train_dataloader'] == dict(
        base['train_dataloader'],
        dataset=dict(base['train_dataloader']['dataset'], type='LabelledImages'),
    )
    for key in ('data_preprocessor', 'backbone'):
        assert ours['model'][key] == base['model'][key]
    assert ours['model']['neck'] == dict(base['model']['neck'], track_level=0)
    assert ours['model']['head']['loss_weights'] == base['model']['head']['loss_weights']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The recipe at a size for tests, and eight images in each of three folders."""
    folder = tmp_path_factory.mktemp('supervised')
    for number, name in enumerate(('ants', 'bees', 'cats')):
        draw_images(folder / 'images' / name, 8, seed=number)
    (folder / 'config.py').write_text(f"""
_base_ = {str(RECIPE)!r}
custom_imports = dict(imports=['faults'])
view_pipeline_q = _base_.view_pipeline_q
view_pipeline_k = _base_.view_pipeline_k
view_pipeline_q[0].update(scale=32, crop_ratio_range=(0.8, 1.0))
view_pipeline_k[0].update(scale=32, crop_ratio_range=(0.8, 1.0))
multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.transforms = [view_pipeline_q[:2], view_pipeline_k[:2]]
model = dict(
    backbone=dict(depth=18, stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16, hid_channels=32, embed_channels=16),
    head=dict(in_channels=16, num_classes=3),
)
train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root={str(folder / 'images')!r},
        pipeline=[
            dict(type='LoadAnyImage'),
            multi_view,
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
test_pipeline = _base_.test_dataloader.dataset.pipeline
test_pipeline[1].scale = test_pipeline[2].crop_size = 32
test_dataloader = dict(
    batch_size=5,
    num_workers=0,
    dataset=dict(data_root={str(folder / 'images')!r}, pipeline=test_pipeline),
)
test_evaluator = dict(topk=(1,))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=3e-3, weight_decay=0.01),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0),
)
auto_scale_lr = dict(enable=False)
param_scheduler = []
train_cfg = dict(max_epochs=80)
env_cfg = dict(cudnn_benchmark=False)
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=40))
log_level = 'WARNING'
""")
    return folder


def test_learns_its_folders_and_tells_plain_images_apart(folder, monkeypatch, capsys):
    """Train, test, and into a detector, by the tools."""
    run(folder / 'config.py', folder / 'whole')
    checkpoint = (folder / 'whole/last_checkpoint').read_text()
    arguments = [folder / 'config.py', checkpoint, '--work-dir', folder / 'test', '--cfg-options',
                 'log_level=INFO']  # fmt: skip
    call_tool(monkeypatch, 'test', *arguments)
    logged = capsys.readouterr()
    accuracy = re.findall(r'accuracy/top1: ([\d.]+)', logged.out + logged.err)
    assert float(accuracy[-1]) > 65  # chance: 33

    shutil.copytree(folder / 'images', folder / 'renamed')
    (folder / 'renamed/cats').rename(folder / 'renamed/an_earlier_name')
    renamed = f'test_dataloader.dataset.data_root={folder}/renamed'
    with pytest.raises(SystemExit, match='other folders than what the model learns from.*earlier'):
        call_tool(monkeypatch, 'test', *arguments, renamed)

    pictures, sentences = run_pictures(folder / 'whole', 6, 0)
    assert [title.split(': ')[1] for title, _ in pictures] == ['sheets']
    assert not sentences

    weights = to_mmdet(torch.load(checkpoint, weights_only=False)['state_dict'])
    cfg = tiny_detector('retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg.model.backbone.update(depth=18, stem_channels=8, base_channels=8)
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16, norm_cfg=dict(type='BN'))
    cfg.model.bbox_head.update(in_channels=16)
    detector = build_detector(cfg.model)
    report = check_load(detector, fit_to_detector(weights, detector))
    parts = [key for key in report.missing if key.startswith(('backbone.', 'neck.lateral'))]
    assert not parts + report.mismatched


def test_a_resumed_run_ends_as_an_unbroken_one(folder):
    options = ('train_cfg.max_epochs=4', 'default_hooks.checkpoint.interval=1')
    run(folder / 'config.py', folder / 'unbroken', *options)
    run(folder / 'config.py', folder / 'broken', *options, *fault(5), code=1)
    run(folder / 'config.py', folder / 'broken', *options)
    check_same_run(folder / 'broken', folder / 'unbroken')


def test_two_processes_learn_and_count_together(folder, free_port, monkeypatch, capsys):
    """By a launcher: no image of the test counts twice, though the last one fills up a share."""
    options = ('train_cfg.max_epochs=3', 'train_dataloader.batch_size=6')
    options += ('default_hooks.checkpoint.interval=3',)
    run_two(folder / 'config.py', folder / 'two', str(free_port), *options)
    checkpoint = (folder / 'two/last_checkpoint').read_text()
    test = [folder / 'config.py', checkpoint, '--work-dir', folder / 'two_test', '--cfg-options',
            'log_level=INFO', 'test_dataloader.dataset.indices=23']  # fmt: skip
    call_tool(monkeypatch, 'test', *test)
    printed = ''.join(capsys.readouterr())
    env = dict(os.environ, CUDA_VISIBLE_DEVICES='', PYTHONPATH=str(ROOT / 'tests'))
    printed += subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2',
         f'--master_port={free_port}', 'tools/test.py', '--launcher', 'pytorch', *test],
        cwd=ROOT, env=env, text=True, timeout=TIMEOUT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ).stdout  # fmt: skip
    accuracies = re.findall(r'accuracy/top1: ([\d.]+)', printed)
    one, two = map(float, accuracies)
    assert one == two
    right = one / 100 * 23
    assert 0 < right == pytest.approx(round(right), abs=1e-3)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ['model.head.num_classes=4'],
            r'images has 3 classes, the model 4: set model\.head\.num_cl',
        ),
        (['model.head.num_classes=2'], r'3 classes, the model 2'),
        (
            ['train_dataloader.dataset.data_root={folder}/images/ants'],
            r'images/ants/0000\.jpg has no label',
        ),
        (['train_dataloader.dataset.ann_file={folder}/list.txt'], 'line 2 of .* has no label'),
        (['default_hooks.target.type=TargetUpdateHook'], 'a SupervisedMCL has no target'),
    ],
)
def test_labels_that_do_not_fit_end_before_training(folder, options, message):
    (folder / 'list.txt').write_text('ants/0000.jpg 0\nants/0001.jpg\n')
    options = [option.replace('{folder}', str(folder)) for option in options]
    printed = run(folder / 'config.py', folder / 'refused', *options, code=1)
    (folder / 'refused.log').unlink()
    last = printed.strip().splitlines()[-1]
    assert re.search(rf'^ValueError: .*{message}', last), last
