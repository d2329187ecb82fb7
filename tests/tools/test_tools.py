"""The tools end to end, at a tiny size, as a user calls them."""

import json
import re
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from command_line import FINETUNE, PRETRAIN, run
from conftest import ROOT, SMALL, draw_images
from conftest import call_tool as call


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """A pre-training run of two steps, its export and a few drawn scenes."""
    folder = tmp_path_factory.mktemp('work')
    images = draw_images(folder / 'images', 12)
    with pytest.MonkeyPatch.context() as patch:
        call(patch, 'train', PRETRAIN, '--work-dir', folder / 'pretrain', '--cfg-options', *SMALL,
             f'train_dataloader.dataset.data_root={images}')  # fmt: skip
        call(patch, 'export', folder / 'pretrain/iter_2.pth', folder / 'export.pth')
        shutil.copy(folder / 'pretrain/iter_2.pth', folder / 'pretrain.pth')  # resuming removes it
        call(patch, 'make_scenes', folder / 'scenes', '--train', 4, '--val', 3, '--unlabelled', 2)
    return folder


def test_pretraining_leaves_a_checkpoint_and_a_log(work):
    logged = next(work.glob('pretrain/*/vis_data/config.py')).read_text()
    assert 'MultiLevelContrastiveHead' in logged
    model = torch.load(work / 'pretrain.pth', weights_only=False)['state_dict']
    online, target = model['backbone.conv1.weight'], model['target.backbone.conv1.weight']
    assert not torch.equal(online, target)


def test_export_is_small_and_says_where_it_comes_from(work):
    export = torch.load(work / 'export.pth', weights_only=True)
    assert set(export) == {'state_dict', 'meta'}
    assert export['meta']['source'] == 'iter_2.pth'
    assert export['meta']['iteration'] == 2
    assert 'MCLNeck' in export['meta']['config']
    checkpoint = work / 'pretrain.pth'
    assert (work / 'export.pth').stat().st_size < checkpoint.stat().st_size / 3


def test_resume_goes_on_from_the_newest_checkpoint(work, monkeypatch):
    options = [*SMALL, f'train_dataloader.dataset.data_root={work / "images"}']
    options[3:5] = ['train_cfg.max_iters=3', 'default_hooks.checkpoint.interval=1']
    call(monkeypatch, 'train', PRETRAIN, '--work-dir', work / 'pretrain', '--resume',
         '--cfg-options', *options)  # fmt: skip
    after = torch.load(work / 'pretrain/iter_3.pth', weights_only=False)
    assert after['meta']['iter'] == 3
    step = [s['step'] for s in after['optimizer']['state'].values()]
    assert {int(s) for s in step} == {3}


def test_too_many_bad_images_stop_the_run_in_one_line(work, monkeypatch):
    images = draw_images(work / 'half', 6)
    for index in range(6):
        (images / f'bad{index}.jpg').write_text('text')
    with pytest.raises(SystemExit) as error:
        call(monkeypatch, 'train', PRETRAIN, '--work-dir', work / 'stopped', '--cfg-options', *SMALL,
             'train_cfg.max_iters=9', 'default_hooks.bad_images.interval=1',
             'default_hooks.bad_images.min_count=2',
             f'train_dataloader.dataset.data_root={images}')  # fmt: skip
    message = str(error.value.code)
    assert re.match(r'TooManyBadImagesError: [3-6] of \d+ images seen cannot be used', message)
    assert 3 <= len((work / 'stopped/bad_images.txt').read_text().splitlines()) <= 6


def test_montage_picture(work, monkeypatch, tmp_path):
    call(monkeypatch, 'browse', PRETRAIN, tmp_path / 'm.png', '--batch-size', 8,
         '--cfg-options', f'train_dataloader.dataset.data_root={work / "images"}')  # fmt: skip
    picture = cv2.imread(str(tmp_path / 'm.png'))
    assert picture.shape[:2] == (2 * (448 + 36 + 6), 4 * (448 + 12))
    assert np.unique(picture.reshape(-1, 3), axis=0).shape[0] > 100


def test_scenes_are_deterministic(work, monkeypatch, tmp_path):
    call(monkeypatch, 'make_scenes', tmp_path, '--train', 4, '--val', 3, '--unlabelled', 2)
    for path in (work / 'scenes').rglob('*.*'):
        assert path.read_bytes() == (tmp_path / path.relative_to(work / 'scenes')).read_bytes()


def finetune_options(work):
    return [
        f'data_root={work}/scenes/',
        f'train_dataloader.dataset.data_root={work}/scenes/',
        f'val_dataloader.dataset.data_root={work}/scenes/',
        f'test_dataloader.dataset.data_root={work}/scenes/',
        f'val_evaluator.ann_file={work}/scenes/annotations/val.json',
        f'test_evaluator.ann_file={work}/scenes/annotations/val.json',
        'train_dataloader.batch_size=4',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.interval=1',
        'log_level=ERROR',
    ]


def test_finetune_from_the_export_then_test(work, monkeypatch, capsys):
    call(monkeypatch, 'train', FINETUNE, '--work-dir', work / 'finetune', '--cfg-options',
         *finetune_options(work), f'load_from={work}/export.pth')  # fmt: skip
    scalars = next(work.glob('finetune/*/vis_data/scalars.json')).read_text().splitlines()
    assert any('coco/segm_mAP' in json.loads(line) for line in scalars)
    call(monkeypatch, 'test', FINETUNE, work / 'finetune/epoch_1.pth', '--work-dir', work / 'test',
         '--show-dir', work / 'shown', '--cfg-options', *finetune_options(work))  # fmt: skip
    results = json.loads(next(work.glob('test/*/*.json')).read_text())
    assert 'coco/bbox_mAP' in results
    scenes, pictures = sorted(work.glob('scenes/val/*.jpg')), sorted((work / 'shown').iterdir())
    assert [p.name for p in pictures] == [f'{scene.stem}.png' for scene in scenes]
    for scene, picture in zip(
        scenes, pictures
    ):  # labels (here none are read) left, detections right
        plain = cv2.imread(str(scene)).astype(int)
        left, right = np.hsplit(cv2.imread(str(picture)).astype(int), 2)
        assert left.shape == right.shape == plain.shape
        assert np.abs(left - plain).mean() < 1

    weights = torch.load(work / 'finetune/epoch_1.pth', weights_only=False)['state_dict']
    save_file(weights, work / 'finetuned.safetensors')
    capsys.readouterr()
    call(monkeypatch, 'test', FINETUNE, work / 'finetuned.safetensors', '--work-dir', work / 'test2',
         '--cfg-options', *finetune_options(work), 'log_level=INFO')  # fmt: skip
    screen = capsys.readouterr().out
    assert 'coco/bbox_mAP' in screen
    assert len(screen.splitlines()) < 60  # with MMEngine's own start there are hundreds
    assert 'System environment' in next(work.glob('test2/*/*.log')).read_text()
    again = json.loads(next(work.glob('test2/*/*.json')).read_text())
    assert again['coco/bbox_mAP'] == results['coco/bbox_mAP']


def test_official_checkpoint_resumes_finetunes_and_exports(work, monkeypatch):
    names = json.loads((ROOT / 'tests/data/reference.json').read_text())['state_dict_keys']
    weights = {name: torch.rand(shape) for name, shape in names}
    for name in [name for name in weights if name.startswith('backbone.')]:
        weights[name] = weights[f'encoder_q.0.{name.removeprefix("backbone.")}']
    prefixed = {f'module.{name}': value for name, value in weights.items()}
    torch.save(dict(state_dict=prefixed), work / 'official.pth')
    call(monkeypatch, 'convert_official', work / 'official.pth', work / 'converted.pth')
    network = [
        'model.backbone.stem_channels=64',
        'model.backbone.base_channels=64',
        'model.neck.in_channels=[64,128,256,512]',
        'model.neck.out_channels=32',
        'model.neck.hid_channels=64',
        'model.neck.embed_channels=32',
        'model.head.in_channels=32',
        'model.head.hid_channels=64',
        'optim_wrapper.optimizer.lr=0',
        'optim_wrapper.optimizer.weight_decay=0',
        f'train_dataloader.dataset.data_root={work}/images',
    ]
    for name, start in (
        ('resumed', ['--resume', work / 'converted.pth']),
        ('loaded', ['--cfg-options', f'load_from={work}/converted.pth']),
    ):
        options = ['--cfg-options'] if name == 'resumed' else []
        call(monkeypatch, 'train', PRETRAIN, '--work-dir', work / name, *start, *options,
             *SMALL, *network)  # fmt: skip
        trained = torch.load(work / name / 'iter_2.pth', weights_only=False)['state_dict']
        for theirs, ours in {
            'encoder_q.1.fpn_convs.0.conv.weight': 'neck.fpn.fpn_convs.0.conv.weight',
            'head.predictor.3.mlp.3.bias': 'head.predictors.3.fc1.bias',
        }.items():
            torch.testing.assert_close(trained[ours], weights[theirs])
    call(monkeypatch, 'export', work / 'converted.pth', work / 'official_export.pth')


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root=/nowhere'],
         'FileNotFoundError: .*no image folder at /nowhere'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/empty'],
         'ValueError: .*no image in .*/empty'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/bad'],
         'ValueError: .*no readable image'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/images',
                   'train_dataloader.batch_size=64'],
         'ValueError: no batch to train on: 12 images .*batch of 64'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/images',
                   'train_dataloader.batch_size=4',
                   'train_dataloader.dataset.pipeline.1.side=80'],
         'ValueError: the side of sheets must be a multiple of 32 pixels, got 80: set side'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/images',
                   'train_dataloader.batch_size=4',
                   'model.data_preprocessor.montage.ratios=(1,2,4,12)'],
         'ValueError: .*ratios must be 1, 2, 4'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/images',
                   'train_dataloader.batch_size=4',
                   'model.data_preprocessor.montage.num_sheets=(8,2,1,1)'],
         'ValueError: level 0 shows the 4 images'),
        ('train', [PRETRAIN, '--resume', '{work}/export.pth', '--cfg-options',
                   'train_dataloader.dataset.data_root={work}/images',
                   'train_dataloader.batch_size=4'],
         'ValueError: .*export.pth holds weights but not the state of a run'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/images',
                   'train_dataloader.batch_size=1'],
         'ValueError: one image has no negatives'),
        ('train', [PRETRAIN, '--cfg-options', 'train_dataloader.dataset.data_root={work}/images',
                   'train_dataloader.batch_size=4', 'model.early_backward=True', 'compile=True'],
         'ValueError: early_backward .* does not work with compile'),
        ('train', [PRETRAIN, '--resume', '/nowhere.pth'],
         'FileNotFoundError: no checkpoint to resume from at /nowhere.pth'),
        ('train', [FINETUNE, '--cfg-options', '{finetune}', 'load_from={work}/notes.pth'],
         'ValueError: .*notes.pth'),
        ('train', [FINETUNE, '--cfg-options', '{finetune}', 'load_from={work}/pretrain.pth'],
         r'ValueError: .*first: mcl-mm export .* OUT\.pth'),
        ('train', [FINETUNE, '--cfg-options', '{finetune}', 'load_from={work}/export.pth',
                   'model.neck.out_channels=32', 'model.rpn_head.in_channels=32'],
         r'ValueError: .* another shape .*neck\.'),
        ('export', ['{work}/foreign.pth', '/tmp/out.pth'],
         'ValueError: not an mcl_mm pre-training checkpoint'),
        ('export', ['/nowhere.pth', '/tmp/out.pth'], 'FileNotFoundError: no checkpoint at'),
        ('convert_official', ['{work}/export.pth', '/tmp/out.pth'],
         "ValueError: not a checkpoint of the authors' MCL code: .* mcl_mm export"),
        ('test', [PRETRAIN, '{work}/export.pth'], 'ValueError: .* has no test_dataloader'),
        ('browse', [PRETRAIN, '/tmp/out.png', '--cfg-options',
                            'train_dataloader.dataset.data_root=/nowhere'],
         'FileNotFoundError: .*no image folder'),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_clear_error(work, monkeypatch, tool, arguments, message):
    (work / 'empty').mkdir(exist_ok=True)
    (work / 'bad').mkdir(exist_ok=True)
    (work / 'bad/a.jpg').write_text('text')
    (work / 'notes.pth').write_text('text')
    torch.save({'fc.weight': torch.ones(1)}, work / 'foreign.pth')
    expanded = []
    for argument in arguments:
        if argument == '{finetune}':
            expanded += finetune_options(work)
        else:
            expanded.append(argument.replace('{work}', str(work)))
    if tool == 'train':
        expanded[1:1] = ['--work-dir', str(work / 'refused')]
    with pytest.raises(SystemExit) as error:
        call(monkeypatch, tool, *expanded)
    assert re.match(message, str(error.value.code), re.DOTALL), error.value.code


def test_refused_input_sets_the_exit_code(work):
    process = run(sys.executable, 'tools/export.py', '/nowhere.pth', '/tmp/out.pth')
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith('FileNotFoundError: no checkpoint at')
    assert 'Traceback' not in process.stderr
