"""One setting, `channels`, from files of four bands to a detector's feature maps."""

import json
import re

import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import TRANSFORMS, DefaultScope

from command_line import PRETRAIN, call, succeed
from conftest import ROOT, SMALL
from mcl_mm.channels import MEAN, STD, follow_channels
from mcl_mm.datasets import UnlabelledImages
from mcl_mm.datasets.depth import RANGE_FILE
from mcl_mm.registry import MODELS
from mcl_mm.transfer import read_checkpoint
from mcl_mm.transfer.detector.examine import examine
from mcl_mm.transfer.detector.settings import build
from mcl_mm.transfer.export import input_text
from tiny_runs import check_same_run, fault, run

RECIPE = ROOT / 'configs/channels/mcl_r50_small_4ch.py'
SMALL_RECIPE = ROOT / 'configs/mcl_r50_small.py'
DETECTOR = f"""
_base_ = {str(ROOT / 'configs/quickstart/finetune.py')!r}
pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
bands = dict(data_root={{root!r}}, ann_file='boxes.json', data_prefix=dict(img='images'), pipeline=pipeline)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=None, mask_roi_extractor=None)
)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(metainfo=dict(classes=('field',)), **bands))
val_dataloader = dict(num_workers=0, persistent_workers=False,
                      dataset=dict(metainfo=dict(classes=('field',)), **bands))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={{root!r}} + '/boxes.json', metric='bbox')
test_evaluator = val_evaluator
epochs = 1
train_cfg = dict(max_epochs=1)
log_level = 'WARNING'
"""


def draw_bands(folder, count=8):
    """TIFFs of four bands and 12 bits in 16, each band on a level of its own; every other one an array."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        bands = np.full((60, 90, 4), [200, 900, 1800, 3000]) + rng.integers(-150, 150, (60, 90, 4))
        for _ in range(5):
            y, x = rng.integers(0, 40), rng.integers(0, 60)
            bands[y : y + 20, x : x + 25] += rng.integers(-180, 900, 4)
        bands = bands.clip(0, 4095).astype(np.uint16)
        if index % 2:
            np.save(folder / f'{index}.npy', bands)
        else:
            tifffile.imwrite(
                folder / f'{index}.tif', np.moveaxis(bands, -1, 0), photometric='minisblack'
            )
    return folder


def write_boxes(path, images):
    """COCO annotations of the files, one box each."""
    names = sorted(image.name for image in images.iterdir())
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=n, file_name=f, width=90, height=60) for n, f in enumerate(names)],
                annotations=[
                    dict(id=n, image_id=n, category_id=1, iscrowd=0, area=600, bbox=[9, 9, 30, 20])
                    for n in range(len(names))
                ],
                categories=[dict(id=1, name='field')],
            )
        )
    )


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """Files, measured; a pre-training run of two steps by the one setting; its export."""
    folder = tmp_path_factory.mktemp('channels')
    images = draw_bands(folder / 'images')
    write_boxes(folder / 'boxes.json', images)
    succeed('check_images', images, '--channels', 4, '--list', folder / 'good.txt', '--workers', 1)
    succeed('train', PRETRAIN, '--work-dir', folder / 'run', '--cfg-options', *SMALL, 'channels=4',
            f'train_dataloader.dataset.data_root={images}',
            f'train_dataloader.dataset.ann_file={folder}/good.txt')  # fmt: skip
    succeed('export', folder / 'run/iter_2.pth', folder / 'export.pth')
    return folder


@pytest.fixture(scope='module')
def adapted(work):
    """The detector, as a user has it, and its config as adapt writes it."""
    (work / 'bands.py').write_text(DETECTOR.format(root=str(work)))
    succeed('adapt', work / 'bands.py', '--weights', work / 'export.pth', '--out-dir', work)
    return work / 'bands_finetune.py'


def built(part):
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        return MODELS.build(part)


def measured(work):
    return json.loads((work / f'good.txt{RANGE_FILE}').read_text())


def test_the_recipe_is_what_follows_from_one_setting():
    """Written out in the file, and the same: any runner that opens it gets it."""
    recipe, derived = Config.fromfile(RECIPE), Config.fromfile(SMALL_RECIPE)
    derived.channels = 4
    follow_channels(derived)
    left = derived.model.data_preprocessor.photometric
    right = recipe.model.data_preprocessor.photometric
    for one, other in zip(left, right):
        one, other = (built(part) for part in (one, other))
        assert {k: v for k, v in vars(one).items() if k[0] != '_'} == {
            k: v for k, v in vars(other).items() if k[0] != '_'
        }
    for cfg in (recipe, derived):
        cfg.model.data_preprocessor.photometric = None
        cfg.pop('values', None)
    assert recipe.to_dict() == derived.to_dict()
    follow_channels(recipe)
    derived.model.data_preprocessor.photometric = None
    assert recipe.to_dict() == derived.to_dict()


def test_a_config_without_the_setting_stays_as_it_is():
    cfg = Config.fromfile(SMALL_RECIPE)
    before = cfg.to_dict()
    follow_channels(cfg)
    assert cfg.to_dict() == before


@pytest.mark.parametrize('channels', [1, 2, 3, 7])
def test_any_number_is_followed_everywhere(channels):
    cfg = Config.fromfile(RECIPE)
    cfg.channels = channels
    follow_channels(cfg)
    assert cfg.train_dataloader.dataset.channels == channels
    assert cfg.model.backbone.in_channels == channels
    pixels = cfg.model.data_preprocessor
    assert (pixels.mean, pixels.std) == ([MEAN] * channels, [STD] * channels)
    assert not pixels.bgr_to_rgb
    assert built(cfg.model).backbone.conv1.in_channels == channels


def test_means_of_ones_own_stay_and_measured_ones_replace_neutral_ones(tmp_path):
    (tmp_path / f'good.txt{RANGE_FILE}').write_text(json.dumps(dict(mean=[1, 2], std=[3, 4])))
    for own in ([5.0, 6.0], [MEAN, MEAN]):
        cfg = Config.fromfile(SMALL_RECIPE)
        cfg.channels = 2
        cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'good.txt')
        cfg.model.data_preprocessor.mean = own
        follow_channels(cfg)
        assert cfg.model.data_preprocessor.mean == (own if own[0] == 5 else [1, 2])
        assert cfg.model.data_preprocessor.std == [3, 4]


@pytest.mark.parametrize('channels', ['0', '-1', '2.5', 'four', '[4]', 'True'])
def test_other_settings_end_in_one_sentence(channels, tmp_path):
    said = call('train', PRETRAIN, '--work-dir', tmp_path, '--cfg-options', f'channels={channels}')
    assert re.fullmatch(r'(ValueError: )?channels must be a whole number from 1, got .*', str(said))


def test_views_for_rgb_and_backbones_for_rgb_are_refused(tmp_path):
    recipe = ROOT / 'configs/mcl_r50_100e.py'
    said = str(call('train', recipe, '--work-dir', tmp_path, '--cfg-options', 'channels=4'))
    assert 'MultiView is for RGB images. Cut views with NativeViews' in said
    cfg = Config.fromfile(SMALL_RECIPE)
    cfg.channels = 4
    cfg.model.backbone = dict(type='mmpretrain.RepVGG', arch='A0')
    cfg.model.backbone.type = 'mmpretrain.LeNet5'
    with pytest.raises(ValueError, match='LeNet5 has no setting in_channels'):
        follow_channels(cfg)


@pytest.mark.parametrize('left_out', ['backbone', 'data_preprocessor'])
def test_a_model_without_its_parts_is_told_where_to_begin(left_out):
    cfg = Config.fromfile(SMALL_RECIPE)
    cfg.channels = 4
    del cfg.model[left_out]
    with pytest.raises(ValueError, match='begin the config with the _base_ of a recipe'):
        follow_channels(cfg)


def test_the_setting_of_a_detector_is_refused():
    cfg = Config.fromfile(ROOT / 'configs/quickstart/finetune.py')
    cfg.channels = 4
    with pytest.raises(ValueError, match='config of MaskRCNN: a detector gets its channels from'):
        follow_channels(cfg)


def test_the_run_took_what_was_measured_and_the_export_records_it(work):
    found, meta = measured(work), read_checkpoint(work / 'export.pth')['meta']
    images = meta['input']
    assert images['channels'] == 4
    assert (images['mean'], images['std']) == (found['mean'], found['std'])
    assert [list(map(list, r)) for r in images['value_ranges']] == [found['value_range']]
    assert meta['backbone']['in_channels'] == 4
    assert input_text(images).startswith('4 channels in the order of the files, mean [')


def test_the_record_survives_safetensors(work, tmp_path):
    succeed('export', work / 'run/iter_2.pth', tmp_path / 'e.safetensors', '--to', 'safetensors')
    there = read_checkpoint(tmp_path / 'e.safetensors')['meta']['input']
    images = read_checkpoint(work / 'export.pth')['meta']['input']
    assert json.loads(json.dumps(images)) == there


def test_a_stopped_run_goes_on_to_the_same_end(work):
    """To the bit: values, gains and blurs are drawn from states that are kept."""
    text = f"""
_base_ = {PRETRAIN!r}
custom_imports = dict(imports=['faults'])
channels = 4
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(data_root={str(work / 'images')!r}),
)
train_cfg = dict(max_iters=6)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
env_cfg = dict(cudnn_benchmark=False)
log_level = 'WARNING'
"""
    (work / 'resumed.py').write_text(text)
    run(work / 'resumed.py', work / 'whole')
    run(work / 'resumed.py', work / 'cut', *fault(3, 'SIGTERM'), code=75)
    run(work / 'resumed.py', work / 'cut')
    check_same_run(work / 'cut', work / 'whole')


def test_the_summary_says_what_was_measured(work, tmp_path):
    for name, options in (
        ('measured', [f'train_dataloader.dataset.ann_file={work}/good.txt']),
        ('not', []),
    ):
        run(PRETRAIN, tmp_path / name, *SMALL[:-1], 'channels=4', *options,
            f'train_dataloader.dataset.data_root={work / "images"}')  # fmt: skip
        said = (tmp_path / f'{name}.log').read_text()
        (line,) = [line for line in said.splitlines() if line.startswith('  channels ')]
        assert '4, in the order of the files; values from ' in line
        assert ('mean and deviation not measured' in line) == (name == 'not')


def test_adapt_gives_the_detector_the_same_input_and_the_doctor_agrees(work, adapted):
    cfg, found = Config.fromfile(adapted), measured(work)
    assert cfg.model.backbone.in_channels == 4
    assert cfg.model.data_preprocessor.type == 'mcl_mm.ChannelsDetDataPreprocessor'
    assert cfg.model.data_preprocessor.mean == found['mean']
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        reader = cfg[loader].dataset.pipeline[0]
        assert reader == dict(
            type='mcl_mm.LoadAnyImage', channels=4, value_range=found['value_range']
        )
    diagnosis = examine(str(adapted), processes=8).diagnosis
    assert not diagnosis.errors
    assert not {'other-channels', 'other-input', 'other-value-range'} & {
        trap.id for trap in diagnosis.traps
    }


def test_the_doctor_names_what_is_missing_and_its_lines_cure_it(work, adapted):
    diagnosis = examine(str(work / 'bands.py'), str(work / 'export.pth')).diagnosis
    (error,) = diagnosis.errors
    assert error.id == 'other-shape'
    assert error.fix == 'model = dict(backbone=dict(in_channels=4))'
    (trap,) = [trap for trap in diagnosis.traps if trap.id == 'other-channels']
    assert trap.text.startswith('the weights were trained on 4 channels in the order of the files')
    cured = work / 'cured.py'
    cured.write_text('\n'.join([f'_base_ = {str(work / "bands.py")!r}', *trap.fix.split('; ')]))
    diagnosis = examine(str(cured), str(work / 'export.pth')).diagnosis
    assert 'other-channels' not in {trap.id for trap in diagnosis.traps}
    assert not [e for e in diagnosis.errors if e.id == 'other-shape']


def test_from_file_to_feature_map_both_networks_compute_the_same(work, adapted):
    """The detector by its own config and pipeline; the pre-training model by its data set."""
    cfg = Config.fromfile(work / 'run/pretrain.py')
    model = build(cfg.model, 'mcl_mm')
    checkpoint = read_checkpoint(work / 'run/iter_2.pth')
    model.load_state_dict(checkpoint['state_dict'])
    model.eval()
    images = UnlabelledImages(
        str(work / 'images'),
        channels=4,
        ann_file=str(work / 'good.txt'),
        pipeline=[dict(type='mcl_mm.LoadAnyImage')],
    )
    detector_cfg = Config.fromfile(adapted)
    detector = build(detector_cfg.model, 'mmdet')
    missing = detector.load_state_dict(
        read_checkpoint(work / 'export.pth')['state_dict'], strict=False
    )
    assert not missing.unexpected_keys
    assert not [k for k in missing.missing_keys if k.startswith(('backbone', 'neck'))]
    detector.eval()
    # At full size and without annotations, which change nothing of the pixels.
    steps = [
        s for s in detector_cfg.test_dataloader.dataset.pipeline if s.type != 'LoadAnnotations'
    ]
    steps = [dict(s, scale=(90, 60)) if s.type == 'Resize' else s for s in steps]
    with DefaultScope.overwrite_default_scope('mmdet'):
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    for index in range(len(images)):
        item = images[index]
        pixels = torch.from_numpy(item['img']).permute(2, 0, 1)[None]
        packed = pipeline(dict(img_path=item['img_path'], img_id=0))
        assert torch.equal(packed['inputs'], pixels[0])
        given = detector.data_preprocessor(pseudo_collate([packed]))['inputs']
        with torch.no_grad():
            ours = model.data_preprocessor(dict(inputs=pixels, data_samples=None))['inputs']
            assert torch.equal(given[..., :60, :90], ours)
            expected = model.extract_feat(given)
            assert len(expected) == 4
            for level, one in zip(expected, detector.extract_feat(given)):
                torch.testing.assert_close(one, level, rtol=1e-5, atol=1e-4)


def test_the_adapted_detector_trains(work, adapted):
    """Its own run: the TransferHook, an epoch over TIFFs and arrays, and a validation."""
    succeed('train', adapted, '--work-dir', work / 'detector')
    assert (work / 'detector/epoch_1.pth').is_file()


def test_a_detector_of_four_channels_is_pretrained_without_weights(work, tmp_path):
    """Adapt writes a recipe with the one setting, and both configs read images alike."""
    text = DETECTOR.format(root=str(work))
    text += 'model.update(backbone=dict(in_channels=4))\n'
    (tmp_path / 'own.py').write_text(text)
    succeed('adapt', tmp_path / 'own.py', '--images', work / 'images', '--out-dir', tmp_path)
    pretrain, finetune = (
        Config.fromfile(tmp_path / f'own_{n}.py') for n in ('pretrain', 'finetune')
    )
    assert pretrain.channels == 4
    assert pretrain.model.data_preprocessor.mean == finetune.model.data_preprocessor.mean
    follow_channels(pretrain)
    assert pretrain.train_dataloader.dataset.channels == 4
    assert built(pretrain.model).backbone.conv1.in_channels == 4


def test_browse_and_embed_take_the_run(work, tmp_path):
    config = work / 'run/pretrain.py'
    succeed('browse', config, tmp_path / 'sheets.png')
    succeed('embed', config, work / 'export.pth', work / 'images', '--out', tmp_path / 'e.npz',
            '--workers', 0, '--device', 'cpu', '--threshold', 1)  # fmt: skip
    with np.load(tmp_path / 'e.npz') as found:
        assert len(found['files']) == 8
        np.testing.assert_allclose(np.linalg.norm(found['embeddings'], axis=1), 1, atol=1e-5)
