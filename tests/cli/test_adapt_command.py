"""``mcl-mm adapt`` as a user calls it: what it writes runs as written."""

import re

import pytest
import torch
from mmengine.config import Config

from command_line import call, succeed
from conftest import ROOT, draw_images
from mcl_mm.transfer.detector import write_configs
from processes import forked

# A user's own small data set.
SCENES = """
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True{masks}),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
scenes = dict(
    data_root={scenes!r},
    metainfo=dict(classes=('disc', 'square', 'triangle', 'star', 'ring', 'cross')),
    pipeline=pipeline,
)
worker = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **worker, dataset=dict(**scenes, ann_file='annotations/train.json', data_prefix=dict(img='train/'))
)
val_dataloader = dict(
    **worker, dataset=dict(**scenes, ann_file='annotations/val.json', data_prefix=dict(img='val/'))
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={scenes!r} + 'annotations/val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(optimizer=dict(lr=0.0))
log_level = 'ERROR'
"""

DETECTORS = {
    # Two stages, one of them a cascade's three; caffe style; the user's own hook and import.
    'cascade': ('''
_base_ = 'mmdet::cascade_rcnn/cascade-rcnn_r50-caffe_fpn_1x_coco.py'
custom_imports = dict(imports=['json'], allow_failed_imports=False)
custom_hooks = [dict(type='EMAHook')]
stages = [dict(head, in_channels=16, fc_out_channels=8, num_classes=6) for head in
          _base_.model.roi_head.bbox_head]
model = dict(
    backbone=dict(depth=18, stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=16), bbox_head=stages),
)
''', ''),
    # One stage on P3 to P7; a transformer that gives three of its four maps.
    'swin': ('''
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        _delete_=True, type='SwinTransformer', embed_dims=16, depths=[1, 1, 1, 1],
        num_heads=[1, 2, 4, 8], out_indices=(1, 2, 3),
    ),
    neck=dict(in_channels=[32, 64, 128], start_level=0, out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1, num_classes=6),
)
''', ''),
    'detr': ('''
_base_ = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'
model = dict(
    num_queries=10,
    test_cfg=dict(max_per_img=10),
    backbone=dict(depth=18, stem_channels=8, base_channels=8),
    neck=dict(in_channels=[16, 32, 64]),
    encoder=dict(num_layers=1, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=16))),
    decoder=dict(num_layers=1, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=16))),
    bbox_head=dict(num_classes=6),
)
''', ''),
}  # fmt: skip

# Weights of the trained detector, and which of the export they were at the start.
ARRIVED = {
    'cascade': {
        'neck.lateral_convs.0.conv.weight': 'neck.lateral_convs.0.conv.weight',
        'roi_head.bbox_head.0.shared_convs.0.conv.weight': (
            'roi_head.bbox_head.shared_convs.0.conv.weight'
        ),
        'roi_head.bbox_head.2.shared_convs.3.bn.weight': (
            'roi_head.bbox_head.shared_convs.3.bn.weight'
        ),
    },
    'swin': {
        'neck.lateral_convs.0.conv.weight': 'neck.lateral_convs.1.conv.weight',
        'neck.fpn_convs.2.conv.weight': 'neck.fpn_convs.3.conv.weight',
    },
    'detr': {},
}


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """A few drawn scenes with boxes, and images without."""
    folder = tmp_path_factory.mktemp('adapt')
    draw_images(folder / 'images', 8)
    succeed('make_scenes', folder / 'scenes', '--train', 4, '--val', 2, '--unlabelled', 1)
    for name, (text, masks) in DETECTORS.items():
        (folder / name).mkdir()
        data = SCENES.format(scenes=f'{folder}/scenes/', masks=masks)
        (folder / name / f'{name}.py').write_text(text + data)
    return folder


@pytest.mark.parametrize('name', DETECTORS)
def test_both_configs_run_as_written(work, monkeypatch, capsys, name):
    folder = work / name
    monkeypatch.chdir(folder)
    succeed('adapt', f'{name}.py')
    printed = capsys.readouterr().out
    for aim in ('finetune', 'pretrain'):
        text = (folder / f'{name}_{aim}.py').read_text()
        comment = [line[2:] for line in text.splitlines() if line.startswith('#')]
        assert all(line in printed for line in comment)
        assert sum(line.startswith('- ') for line in comment) >= 1

    refused = call('train', f'{name}_finetune.py')
    assert re.match(f'FileNotFoundError: no checkpoint at .*{name}_mcl.pth', str(refused))

    succeed('train', f'{name}_pretrain.py', '--cfg-options',
         f'train_dataloader.dataset.data_root={work}/images', 'train_dataloader.batch_size=4',
         'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
         'train_dataloader.dataset.pipeline.1.transforms.0.0.scale=64',
         'train_dataloader.dataset.pipeline.1.transforms.1.0.scale=64',
         'model.neck.hid_channels=16', 'model.neck.embed_channels=16', 'model.head.in_channels=16',
         'model.head.hid_channels=16', 'train_cfg.max_epochs=1',
         'default_hooks.checkpoint.interval=1', 'log_level=ERROR')  # fmt: skip
    succeed('export', f'work_dirs/{name}_pretrain/epoch_1.pth', f'{name}_mcl.pth')
    succeed('train', f'{name}_finetune.py')

    pretrained = torch.load(f'{name}_mcl.pth', weights_only=True)['state_dict']
    trained = torch.load(f'work_dirs/{name}_finetune/epoch_1.pth', weights_only=False)['state_dict']
    arrived = {key: key for key in trained if key.startswith('backbone.')} | ARRIVED[name]
    for theirs, ours in arrived.items():
        if theirs.endswith('weight'):  # the learning rate is 0; statistics of BN move
            torch.testing.assert_close(trained[theirs], pretrained[ours], rtol=0, atol=0)
    assert any(
        hook.type == 'mcl_mm.TransferHook'
        for hook in Config.fromfile(f'{name}_finetune.py').custom_hooks
    )

    # Now there are weights: the same configs come out, but for what is already there.
    succeed('adapt', f'{name}.py', '--weights', f'{name}_mcl.pth', '--out-dir', 'again')
    assert re.search('part .* pre-trained\n', capsys.readouterr().out)  # what is filled
    for aim in ('finetune', 'pretrain'):
        again, before = (Config.fromfile(f'{f}{name}_{aim}.py') for f in ('again/', ''))
        assert again.to_dict() == before.to_dict()


def refusal(*arguments):
    error = call('adapt', *arguments)
    return str(error)


RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'


def test_weights_of_another_network_point_to_pretraining(work, monkeypatch, tmp_path):
    """Deeper, wider, or another stem: no config that would load a part of it is left behind."""
    monkeypatch.chdir(tmp_path)
    net = 'stem_channels=8, base_channels=8'
    fpn = 'neck=dict(in_channels=[8, 16, 32, 64])'
    base = f"_base_ = '{RETINANET}'\nmodel = dict(backbone=dict(depth=18, %s), {fpn})\n"
    (tmp_path / 'own.py').write_text(base % net)
    succeed('adapt', 'own.py')
    from mcl_mm.transfer import to_mmdet
    from mcl_mm.transfer.detector.settings import build

    model = build(Config.fromfile('own_pretrain.py').model, 'mcl_mm')
    torch.save(dict(state_dict=to_mmdet(model.state_dict())), 'own.pth')
    torch.save(dict(state_dict=model.state_dict()), 'whole.pth')
    others = {
        'deeper': base.replace('depth=18', 'depth=34') % net,
        'wider': base.replace('[8, 16, 32, 64]', '[16, 32, 64, 128]')
        % 'stem_channels=8, base_channels=16',
        'stem': base % f'{net}, deep_stem=True',
        'pyramid': base.replace('[8, 16, 32, 64]', '[8, 16, 32, 64], out_channels=32') % net,
    }
    for name, text in others.items():
        (tmp_path / f'{name}.py').write_text(text)
        message = refusal(f'{name}.py', '--weights', 'own.pth')
        assert message.startswith(f'ValueError: own.pth does not fit {name}: '), message
        assert message.endswith(f'{name}_pretrain.py pre-trains this detector itself'), message
        assert not (tmp_path / f'{name}_finetune.py').exists()
        Config.fromfile(f'{name}_pretrain.py')
    assert 'first: mcl-mm export whole.pth OUT.pth' in refusal('own.py', '--weights', 'whole.pth')


def test_without_pyramid_weights_still_have_a_use(work, monkeypatch, tmp_path, capsys):
    """A dilated last stage takes the weights, but MCL cannot train it: one config is written."""
    (tmp_path / 'plain.py').write_text(f"_base_ = '{RETINANET}'\n")
    (tmp_path / 'dilated.py').write_text(
        f"_base_ = '{RETINANET}'\n"
        'model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))\n'
    )
    monkeypatch.chdir(tmp_path)
    message = refusal('dilated.py')
    assert message.startswith('NoPyramidError: ResNet gives maps of stride [4, 8, 16, 16]')
    from mmdet.models import ResNet

    backbone = {f'backbone.{k}': v for k, v in ResNet(50).state_dict().items()}
    torch.save(dict(state_dict=backbone), 'weights.pth')
    succeed('adapt', 'dilated.py', '--weights', 'weights.pth')
    assert 'No config for pre-training: ResNet gives maps' in capsys.readouterr().out
    assert 'FPN and heads start at random' in (tmp_path / 'dilated_finetune.py').read_text()
    assert not (tmp_path / 'dilated_pretrain.py').exists()


def test_configs_are_written_where_they_work_from(monkeypatch, tmp_path):
    """Beside the user's config, or elsewhere with a path to it; a name of MMDetection's stays one."""
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/own.py').write_text(
        f"_base_ = '{RETINANET}'\n"
        'model = dict(backbone=dict(depth=18), neck=dict(in_channels=[64, 128, 256, 512]))\n'
    )
    monkeypatch.chdir(tmp_path)
    succeed('adapt', 'configs/own.py')
    assert "_base_ = 'own.py'" in (tmp_path / 'configs/own_finetune.py').read_text()
    succeed('adapt', 'configs/own.py', '--out-dir', 'out/deep')
    assert "_base_ = '../../configs/own.py'" in (tmp_path / 'out/deep/own_finetune.py').read_text()
    Config.fromfile('out/deep/own_finetune.py')
    (tmp_path / 'scratch/mine').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'scratch/mine')
    succeed(
        'adapt', 'configs/own.py', '--out-dir', 'link'
    )  # the system goes up from where it leads to
    Config.fromfile('link/own_finetune.py')
    succeed('adapt', RETINANET, '--pretrained-lr', '0.1')
    written = Config.fromfile('retinanet_r50_fpn_1x_coco_finetune.py').optim_wrapper
    assert written.paramwise_cfg.custom_keys['backbone.'] == dict(lr_mult=0.1)
    assert (
        f"_base_ = '{RETINANET}'"
        in (tmp_path / 'retinanet_r50_fpn_1x_coco_finetune.py').read_text()
    )

    succeed('adapt', 'configs/own.py')  # the same again is no conflict
    mine = tmp_path / 'configs/own_finetune.py'
    mine.write_text(mine.read_text() + 'train_cfg = dict(max_epochs=3)\n')
    assert re.match('FileExistsError: .*own_finetune.py exists and is different',
                    refusal('configs/own.py'))  # fmt: skip
    assert mine.read_text().endswith('max_epochs=3)\n')


def test_the_config_of_a_finished_run_leads_to_a_new_one(monkeypatch, tmp_path):
    """MMEngine writes it with the folder of the run: its checkpoints are not those of the new one."""
    monkeypatch.chdir(tmp_path)
    folder = 'work_dirs/baseline'
    text = f"_base_ = '{RETINANET}'\nwork_dir = '{folder}'\n"
    (tmp_path / 'own.py').write_text(text + 'resume = True\n')
    (tmp_path / 'recipe.py').write_text(
        f"_base_ = '{ROOT}/configs/mcl_r50_100e.py'\nwork_dir = 'a'\n"
    )
    succeed('adapt', 'own.py', '--recipe', 'recipe.py')
    written = Config.fromfile('own_finetune.py')
    assert (written.work_dir, written.resume) == ('work_dirs/own_finetune', False)
    words = (tmp_path / 'own_finetune.py').read_text().replace('\n#  ', '')
    assert f"work_dir='work_dirs/own_finetune': A folder of its own: in {folder} are the" in words
    assert 'resume=False: A new run has nothing to go on with.' in words
    assert Config.fromfile('own_pretrain.py').work_dir == 'work_dirs/own_pretrain'
    succeed('adapt', RETINANET, '--out-dir', 'plain')
    assert 'work_dir ' not in (tmp_path / 'plain/retinanet_r50_fpn_1x_coco_finetune.py').read_text()


def test_the_number_of_images_chooses_recipe_and_batch(work, tmp_path, monkeypatch):
    """Eight images: the recipe for small sets, with the largest power of two that they fill."""
    images = work / 'images'
    succeed('adapt', RETINANET, '--images', images, '--out-dir', tmp_path)
    small = Config.fromfile(tmp_path / 'retinanet_r50_fpn_1x_coco_pretrain.py')
    assert small.train_cfg == Config.fromfile(ROOT / 'configs/mcl_r50_small.py').train_cfg
    assert small.train_dataloader.dataset.data_root == str(images)
    assert small.train_dataloader.batch_size == 8
    monkeypatch.setattr(write_configs, 'SMALL_SET', 7)
    large = write_configs.choose_recipe(None, str(images))
    assert (large.path.stem, large.count) == ('mcl_r50_100e', 8)


@pytest.mark.parametrize('recipe', ['mcl_r50_coco', 'configs/quickstart/pretrain.py', 'own'])
def test_a_recipe_by_name_or_path(tmp_path, recipe):
    """What the user names counts, whatever the images."""
    path = ROOT / 'configs/mcl_r50_coco.py'
    if recipe == 'own':
        recipe = tmp_path / 'own.py'
        recipe.write_text(f'_base_ = {str(path)!r}\ntrain_cfg = dict(max_epochs=3)\n')
    elif '/' in recipe:
        path = ROOT / recipe
    succeed('adapt', RETINANET, '--recipe', recipe, '--out-dir', tmp_path)
    found = Config.fromfile(tmp_path / 'retinanet_r50_fpn_1x_coco_pretrain.py')
    expected = Config.fromfile(path).train_cfg
    if recipe == tmp_path / 'own.py':
        expected = dict(expected, max_epochs=3)
    assert found.train_cfg == expected
    assert found.model.backbone.depth == 50


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['/nowhere.py'], 'FileNotFoundError: no config at /nowhere.py'),
        (['mmdet::retinanet/nothing.py'], 'FileNotFoundError: .*nothing.py'),
        ([RETINANET, '--weights', '/nowhere.pth', '--out-dir', '{tmp}'],
         'FileNotFoundError: no checkpoint at /nowhere.pth'),
        ([RETINANET, '--weights', '{tmp}/notes.pth', '--out-dir', '{tmp}'], 'ValueError: .*notes.pth'),
        ([RETINANET, '--recipe', 'mcl_r50_smal', '--out-dir', '{tmp}'],
         'FileNotFoundError: no config at mcl_r50_smal.*Did you mean mcl_r50_small'),
        ([RETINANET, '--lr-decay', '2', '--out-dir', '{tmp}'],
         r'ValueError: --lr-decay must be a factor in \(0, 1\], got 2'),
        ([RETINANET, '--images', '/nowhere', '--out-dir', '{tmp}'],
         'FileNotFoundError: no image folder at /nowhere'),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_clear_error(monkeypatch, tmp_path, arguments, message):
    (tmp_path / 'notes.pth').write_text('text')
    text = refusal(*(argument.replace('{tmp}', str(tmp_path)) for argument in arguments))
    assert re.match(message, text, re.DOTALL), text
    assert [path.name for path in tmp_path.iterdir()] == ['notes.pth']


def test_refusal_sets_the_exit_code():
    process = forked('-m', 'mcl_mm', 'adapt', '/nowhere.py')
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(
        'FileNotFoundError: no config at /nowhere.py,'
    )


def test_a_recipe_by_name_is_adapted_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    succeed('adapt', 'retinanet_bccd')
    assert {path.name for path in tmp_path.iterdir()} == {
        'retinanet_bccd_finetune.py',
        'retinanet_bccd_pretrain.py',
    }
    cfg = Config.fromfile(tmp_path / 'retinanet_bccd_finetune.py')
    assert cfg.model.bbox_head.num_classes == 3
    assert cfg.model.neck.norm_cfg.type == 'SyncBN'
    text = (tmp_path / 'retinanet_bccd_finetune.py').read_text().replace('\n#  ', '')
    assert 'Batch norm of the pyramid sees the images of one GPU alone' in text
    assert 'another scale' not in text
