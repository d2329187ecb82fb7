"""What every probe does: it reads images as the training does, and the training does not notice."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import RepeatDataset
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

from conftest import ROOT, draw_images
from mcl_mm.datasets import UnlabelledImages
from mcl_mm.evaluation import DenseProbe, KNNProbe
from mcl_mm.evaluation.probe import normalise, undisturbed
from mcl_mm.registry import MODELS
from processes import run_ranks
from tiny_probes import FakeRunner, dense_probe, draw_colour_boxes, draw_colour_folders


@pytest.fixture
def colour_folders(tmp_path):
    return draw_colour_folders(tmp_path)


@pytest.fixture
def colour_boxes(tmp_path):
    return draw_colour_boxes(tmp_path)


def test_images_come_as_the_model_is_used_to(tiny_config, build):
    """BGR bytes become the normalised RGB of the pre-training."""
    tiny_config['data_preprocessor'].update(
        bgr_to_rgb=True, mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0]
    )
    image = torch.tensor([30, 20, 10], dtype=torch.uint8)[None, :, None, None]
    normalised = normalise(build(tiny_config), image).flatten()
    assert normalised.tolist() == [(10 - 1) / 2, (20 - 2) / 4, (30 - 3) / 8]


@pytest.mark.parametrize(
    ('settings', 'wrapped'),
    [
        (dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True, mean=[1, 2, 3], std=[2, 4, 8]), False),
        (dict(type='mmpretrain.ClsDataPreprocessor'), False),
        (dict(type='mmpretrain.SelfSupDataPreprocessor', bgr_to_rgb=True, mean=[1, 2, 3], std=[2, 4, 8]),
         True),
        (dict(type='mmpretrain.SelfSupDataPreprocessor'), True),
        (dict(type='ImgDataPreprocessor', bgr_to_rgb=True, mean=[1, 2, 3], std=[2, 4, 8]), False),
    ],
)  # fmt: skip
def test_images_come_as_any_method_is_used_to(settings, wrapped):
    """What its preprocessor itself makes of a batch."""
    model = torch.nn.Linear(1, 1)
    model.data_preprocessor = MODELS.build(settings)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    batch = dict(inputs=[images.clone()] if wrapped else images.clone(), data_samples=None)
    expected = model.data_preprocessor(batch)['inputs']
    torch.testing.assert_close(normalise(model, images), expected[0] if wrapped else expected)


def test_every_mode_and_generator_is_put_back(tiny_config, build):
    model = build(tiny_config).train()
    model.backbone.layer1.eval()  # frozen by the user
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        torch.rand(3), random.random(), np.random.rand()
        assert not model.extract_feat(torch.zeros(1, 3, 64, 64))[0].requires_grad
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.array_equal(np.random.get_state()[1], state[2])


def pretrain(folder, images, hooks, by_epoch, dtype):
    cfg = Config.fromfile(ROOT / 'configs/quickstart/pretrain_published.py')
    cfg.merge_from_dict(
        {
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.data_root': str(images),
            'model.backbone.base_channels': 8,
            'model.backbone.stem_channels': 8,
            'model.neck': dict(
                in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8
            ),
            'model.head': dict(in_channels=8, hid_channels=16),
            'default_hooks': hooks,
            'work_dir': str(folder),
            'experiment_name': str(folder),  # two runs of one second and name would share a log
            'log_level': 'ERROR',
        }
    )
    for pipeline in cfg.train_dataloader.dataset.pipeline[1].transforms:
        pipeline[0].scale = 64
    if dtype == 'bfloat16':
        cfg.optim_wrapper.type = 'mcl_mm.CPUAmpOptimWrapper'
    if by_epoch:
        cfg.train_cfg = dict(by_epoch=True, max_epochs=2)
        cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    else:
        cfg.train_cfg.max_iters = 3
    with DefaultScope.overwrite_default_scope('mmengine'):
        model = Runner.from_cfg(cfg).train()
    rng = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    scalars = next(folder.glob('*/vis_data/scalars.json'), None)
    lines = scalars.read_text().splitlines() if scalars else []
    return model.state_dict(), rng, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ('by_epoch', 'dtype'), [(False, 'float32'), (True, 'float32'), (False, 'bfloat16')]
)
def test_training_with_and_without_probes_is_the_same(
    tmp_path, colour_folders, colour_boxes, by_epoch, dtype
):
    """Weights, BN statistics and random numbers, to the bit; both probes logged when due."""
    images = draw_images(tmp_path / 'images', 8)
    hooks = dict(
        knn=dict(type='KNNProbe', data_root=str(colour_folders), side=64, k=3),
        dense=dict(
            type='DenseProbe', data_root=str(colour_boxes), ann_file='boxes.json',
            img_prefix='images', scale=(160, 128),
        ),
    )  # fmt: skip
    for hook in hooks.values():
        hook.update(interval=1 if by_epoch else 2, by_epoch=by_epoch, num_workers=1)
    plain, plain_rng, _ = pretrain(tmp_path / 'plain', images, {}, by_epoch, dtype)
    probed, probed_rng, scalars = pretrain(tmp_path / 'probed', images, hooks, by_epoch, dtype)
    assert plain.keys() == probed.keys()
    assert all(torch.equal(plain[key], probed[key]) for key in plain)
    assert torch.equal(plain_rng[0], probed_rng[0])
    assert np.array_equal(plain_rng[1], probed_rng[1])
    assert plain_rng[2] == probed_rng[2]
    for name in ('knn', 'dense'):
        steps = [s['step'] for s in scalars if f'{name}_acc' in s]
        assert steps == ([0, 2, 4] if by_epoch else [0, 2, 3])


def save_deep(folder, index, values):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(folder / f'{index}.png')


@pytest.mark.parametrize('kind', ['knn', 'dense'])
def test_probes_read_deep_images_with_the_range_of_the_training_set(
    tmp_path, colour_boxes, tiny_config, build, kind
):
    """What is black and white in training is so in the probe, though its own images are darker."""
    low, high = 1000, 3000
    values = np.arange(900, 3100, 20)[None].repeat(128, 0)
    for folder, count in (('classes/a', 2), ('classes/b', 2), ('coco/images', 10)):
        for index in range(count):
            save_deep(tmp_path / folder, index, values)
    if kind == 'knn':
        probe = KNNProbe(str(tmp_path / 'classes'), side=64, k=1, num_workers=0)
    else:
        probe = dense_probe(colour_boxes)
    save_deep(tmp_path / 'train', 0, values)
    data = UnlabelledImages(data_root=str(tmp_path / 'train'), pipeline=[], value_range=[low, high])
    runner = FakeRunner(build(tiny_config))
    runner.train_dataloader = SimpleNamespace(
        dataset=RepeatDataset(data, times=2)  # inside of a wrapper
    )
    runner.iter = 7  # it goes on: the range is needed later
    probe.before_train(runner)
    loaded = probe.data.pipeline.transforms[0](dict(probe.data[0], img_path=data[0]['img_path']))
    expected = ((values - low).clip(0, high - low) * 255 / (high - low)).round()
    np.testing.assert_allclose(loaded['img'][..., 0], expected, atol=1)


def one_rank(rank, folder, config):
    torch.manual_seed(0)
    probe = KNNProbe(folder, side=64, k=3, num_workers=0, batch_size=4)
    with undisturbed(model := MODELS.build(config)):
        return [part.numpy() for part in probe.features(model)]


def test_processes_share_the_images(colour_folders, tiny_config, free_port):
    """Either of two processes ends up with what one alone computes, in the same order."""
    results = run_ranks(one_rank, 2, free_port, str(colour_folders), tiny_config)
    torch.manual_seed(0)
    probe = KNNProbe(str(colour_folders), side=64, k=3, num_workers=0)
    with undisturbed(model := MODELS.build(tiny_config)):
        features, labels, images = probe.features(model)
    assert images.tolist() == list(range(15))
    for result in results:
        torch.testing.assert_close(torch.from_numpy(result[0]), features)
        assert result[1].tolist() == labels.tolist()
        assert result[2].tolist() == images.tolist()


def test_refused_before_training(tmp_path, colour_folders, colour_boxes, tiny_config, build):
    for wrong, message in (
        (dict(interval=0), 'interval of KNNProbe must be a whole number from 1, got 0'),
        (dict(k=0), 'k of KNNProbe must be a whole number from 1, got 0'),
        (dict(side=22.5), 'side of KNNProbe must be a whole number'),
        (
            dict(batch_size='8'),
            "batch_size of KNNProbe must be a whole number from 1, got '8'",
        ),
        (dict(num_workers=-1), 'num_workers of KNNProbe must be a whole number from 0, got -1'),
        (dict(temperature=0), 'temperature of KNNProbe must be a number from 1e-06 to'),
    ):
        with pytest.raises(ValueError, match=message):
            KNNProbe(str(colour_folders), **wrong)
    with pytest.raises(ValueError, match='ridge of DenseProbe must be a number from 1e-06 to'):
        DenseProbe(str(colour_boxes), 'boxes.json', ridge=-1)
    (tmp_path / 'one/a').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='no valid file for the classes a'):
        KNNProbe(str(tmp_path / 'one'))
    (colour_folders / 'red/0.png').rename(tmp_path / 'one/a/0.png')
    with pytest.raises(ValueError, match='single class, a'):
        KNNProbe(str(tmp_path / 'one'))
    with pytest.raises(FileNotFoundError, match=r'no annotations .* at .*/none\.json'):
        DenseProbe(str(colour_boxes), 'none.json')
    with pytest.raises(FileNotFoundError, match=r'no image .* at .*/coco/0\.png: set img_prefix'):
        DenseProbe(str(colour_boxes), 'boxes.json')
    full = dict(id=1, image_id=1, bbox=[0, 0, 160, 128], category_id=7, area=9, iscrowd=0)
    content = json.loads((colour_boxes / 'boxes.json').read_text())
    (colour_boxes / 'full.json').write_text(json.dumps(dict(content, annotations=[full])))
    with pytest.raises(ValueError, match='with background beside them, in both halves of its 1 '):
        DenseProbe(str(colour_boxes), 'full.json', 'images')
    with pytest.raises(
        FileNotFoundError, match='a folder of images for each class, and .*has no folder'
    ):
        KNNProbe(str(colour_boxes / 'images'))
    with pytest.raises(FileNotFoundError, match='nowhere is not there'):
        KNNProbe('/nowhere')
    with pytest.raises(ValueError, match='which Linear does not have: use KNNProbe'):
        dense_probe(colour_boxes).before_run(FakeRunner(torch.nn.Linear(1, 1)))
