"""Probes against slow references, on data with a known answer; and that training does not notice."""

import json
import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import RepeatDataset
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torchvision.ops import roi_align

from conftest import ROOT, draw_images
from mcl_mm.datasets import UnlabelledImages
from mcl_mm.evaluation import DenseProbe, KNNProbe, fit_linear, vote
from mcl_mm.evaluation.dense_probe import add_background
from mcl_mm.evaluation.probe import normalise, undisturbed
from mcl_mm.registry import MODELS
from processes import run_ranks

COLOURS = dict(red=(220, 30, 30), green=(30, 200, 40), blue=(30, 40, 230))


def noisy(size, colour, rng):
    return np.clip(np.array(colour) + rng.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def colour_folders(tmp_path):
    """Three folders of images, a colour each."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / 'classes' / name).mkdir(parents=True)
        for i in range(5):
            image = Image.fromarray(noisy((50 + i, 60), colour, rng))
            image.save(tmp_path / 'classes' / name / f'{i}.png')
    return tmp_path / 'classes'


@pytest.fixture
def colour_boxes(tmp_path):
    """A COCO set of ten images, each with a box of every colour; category ids with gaps."""
    rng = np.random.default_rng(0)
    coco = dict(images=[], annotations=[], categories=[])
    for label, name in enumerate(COLOURS):
        coco['categories'].append(dict(id=10 * label + 7, name=name))
    (tmp_path / 'coco/images').mkdir(parents=True)
    for i in range(10):
        image = noisy((128, 160), (128, 128, 128), rng)
        for slot, label in enumerate(rng.permutation(3).tolist()):
            x, y, w, h = 4 + 52 * slot, int(rng.integers(4, 60)), 40, int(rng.integers(30, 60))
            image[y : y + h, x : x + w] = noisy((h, w), list(COLOURS.values())[label], rng)
            coco['annotations'].append(
                dict(id=len(coco['annotations']) + 1, image_id=i + 1, bbox=[x, y, w, h],
                     category_id=10 * label + 7, area=w * h, iscrowd=0)
            )  # fmt: skip
        Image.fromarray(image).save(tmp_path / f'coco/images/{i}.png')
        coco['images'].append(dict(id=i + 1, file_name=f'{i}.png', width=160, height=128))
    (tmp_path / 'coco/boxes.json').write_text(json.dumps(coco))
    return tmp_path / 'coco'


def dense_probe(folder, **kwargs):
    return DenseProbe(
        str(folder), 'boxes.json', 'images', scale=(160, 128), num_workers=0, **kwargs
    )


class FakeRunner:
    """What a probe needs of a runner outside training."""

    def __init__(self, model):
        self.model = model
        self.logged = []
        self.logger = logging.getLogger('probe')
        self.visualizer = self
        self.iter = 0

    def add_scalars(self, scalars, step):
        self.logged.append((step, scalars))


@pytest.mark.parametrize('leave_one_out', [False, True])
def test_votes_equal_slow_reference(leave_one_out):
    torch.manual_seed(0)
    bank = F.normalize(torch.randn(40, 6), dim=1)
    queries = bank if leave_one_out else F.normalize(torch.randn(30, 6), dim=1)
    labels = torch.randint(0, 5, (40,))
    answers = vote(queries, bank, labels, k=7, temperature=0.5, leave_one_out=leave_one_out)
    for i, query in enumerate(queries):
        scored = [
            ((query @ other).item(), label)
            for j, (other, label) in enumerate(zip(bank, labels.tolist()))
            if not (leave_one_out and i == j)
        ]
        ballot = dict.fromkeys(range(5), 0.0)
        for cosine, label in sorted(scored, reverse=True)[:7]:
            ballot[label] += np.exp(cosine / 0.5)
        assert answers[i].item() == max(ballot, key=ballot.get)


def test_votes_do_not_depend_on_how_queries_are_cut():
    torch.manual_seed(0)
    bank = F.normalize(torch.randn(1500, 4), dim=1)
    labels = torch.randint(0, 3, (1500,))
    answers = vote(bank, bank, labels, leave_one_out=True)
    cosine = (bank @ bank.t()).fill_diagonal_(-torch.inf)
    assert torch.equal(answers[1200], vote(bank[1200:1201], bank[cosine[1200].isfinite()],
                       labels[cosine[1200].isfinite()])[0])  # fmt: skip
    assert abs((answers == labels).float().mean() - 1 / 3) < 0.06  # features say nothing


def test_linear_map_is_the_weighted_ridge_solution():
    """Written as ordinary least squares on rows scaled by weights, with rows for the penalty."""
    torch.manual_seed(0)
    x, labels = torch.randn(60, 5), torch.randint(3, 6, (60,))
    x[labels == 4] += 1
    weight = np.array([1 / (labels == c).sum().item() / 3 for c in labels])
    mean = (weight[:, None] * x.numpy()).sum(0)
    std = np.sqrt((weight[:, None] * (x.numpy() - mean) ** 2).sum(0))
    rows = (x.numpy() - mean) / std
    target = np.eye(3)[labels.numpy() - 3] - 1 / 3
    root = np.sqrt(weight)[:, None]
    a = np.concatenate([root * rows, np.sqrt(0.1) * np.eye(5)])
    b = np.concatenate([root * target, np.zeros((5, 3))])
    solution = np.linalg.lstsq(a, b, rcond=None)[0]
    other = torch.randn(200, 5)
    expected = 3 + ((other.numpy() - mean) / std @ solution).argmax(1)
    assert fit_linear(x, labels, 0.1)(other).tolist() == expected.tolist()


def test_linear_map_weighs_classes_equally_and_finds_what_is_separable():
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(25)
    x = torch.randn(100, 16) + 8 * F.one_hot(labels, 16)
    assert torch.equal(fit_linear(x, labels, 0.1)(x), labels)
    often = torch.cat([torch.arange(100), torch.arange(0, 100, 4).repeat(9)])
    other = torch.randn(500, 16) + 2 * F.one_hot(torch.arange(500) % 4, 16)
    once = fit_linear(x, labels, 0.1)(other)
    assert torch.equal(fit_linear(x[often], labels[often], 0.1)(other), once)


def test_knn_probe_tells_colours_apart(colour_folders, tiny_config, build):
    probe = KNNProbe(str(colour_folders), side=64, k=4, num_workers=0, batch_size=4)
    runner = FakeRunner(build(tiny_config))
    scalars = probe.run(runner, step=3)
    assert scalars == dict(knn_acc=1.0, knn_chance=pytest.approx(1 / 3))
    assert runner.logged == [(3, scalars)]


def test_knn_probe_with_a_bank(colour_folders, tiny_config, build, tmp_path):
    """Neighbours come from the bank alone: with exchanged labels every answer is wrong."""
    for name, other in zip(COLOURS, ('green', 'blue', 'red')):
        (tmp_path / 'bank').mkdir(exist_ok=True)
        (tmp_path / 'bank' / name).symlink_to(colour_folders / other)
    probe = KNNProbe(str(colour_folders), str(tmp_path / 'bank'), 64, 4, num_workers=0)
    assert probe.run(FakeRunner(build(tiny_config)), 0)['knn_acc'] == 0
    right = KNNProbe(str(colour_folders), str(colour_folders), 64, 1, num_workers=0)
    assert right.run(FakeRunner(build(tiny_config)), 0)['knn_acc'] == 1


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


def test_unreadable_images_are_left_out(colour_folders, tiny_config, build):
    (colour_folders / 'red/0.png').write_text('text')
    probe = KNNProbe(str(colour_folders), side=64, k=3, num_workers=0)
    assert probe.run(FakeRunner(build(tiny_config)), 0)['knn_chance'] == pytest.approx(5 / 14)


def test_dense_probe_tells_colours_apart(colour_boxes, tiny_config, build):
    probe, runner = dense_probe(colour_boxes), FakeRunner(build(tiny_config))
    probe.before_run(runner)
    scalars = probe.run(runner, 0)
    assert scalars == dict(dense_acc=1.0, dense_chance=pytest.approx(1 / 3))


def test_dense_probe_tells_one_class_from_background(colour_boxes, tiny_config, build):
    content = json.loads((colour_boxes / 'boxes.json').read_text())
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] == 7]
    (colour_boxes / 'one.json').write_text(json.dumps(content))
    probe = DenseProbe(str(colour_boxes), 'one.json', 'images', num_workers=0)
    runner = FakeRunner(build(tiny_config))
    probe.before_run(runner)
    assert probe.run(runner, 0) == dict(dense_acc=1.0, dense_chance=0.5)


def test_background_is_beside_the_objects_and_as_large():
    """Where there is place for it: two objects of which one fills all that is left."""
    boxes = np.array([[0, 0, 30, 40], [40, 0, 200, 200]], np.float32)
    item = dict(gt_bboxes=boxes, gt_labels=np.array([3, 3]), size=(200, 200))
    found = add_background(item)
    assert found['gt_labels'].tolist() == [3, 3, 4]
    x1, y1, x2, y2 = found['gt_bboxes'][2].tolist()
    assert (x2 - x1, y2 - y1) == pytest.approx((30, 40), abs=1e-3)
    assert min(x1, y1) >= 0
    assert max(x2, y2) <= 200
    shared = [
        max(0, min(x2, b[2]) - max(x1, b[0])) * max(0, min(y2, b[3]) - max(y1, b[1])) for b in boxes
    ]
    assert sum(shared) <= 0.1 * 30 * 40
    assert add_background(item)['gt_bboxes'].tolist() == found['gt_bboxes'].tolist()
    assert len(item['gt_bboxes']) == 2


def test_dense_probe_without_information_is_at_chance(tiny_config, build, colour_boxes):
    torch.manual_seed(0)
    images = torch.arange(300).repeat_interleave(4)
    labels = torch.randint(0, 4, (1200,))
    scalars = dense_probe(colour_boxes).score(torch.randn(1200, 8), labels, images)
    assert scalars['chance'] == 1 / 4
    assert scalars['acc'] == pytest.approx(1 / 4, abs=0.06)


def test_dense_probe_reads_boxes_as_a_detector_does(colour_boxes, tiny_config, build):
    """RoIAlign on the level of the box's size: below 112 pixels P2, below 224 P3."""
    model, probe = build(tiny_config).eval(), dense_probe(colour_boxes)
    probe.before_run(FakeRunner(model))
    boxes = np.array([[10, 10, 60, 70], [0, 0, 200, 180]], np.float32)
    image = torch.randint(0, 256, (3, 200, 230), dtype=torch.uint8)
    item = dict(image=image, gt_bboxes=boxes, gt_labels=np.array([4, 2]))
    with torch.no_grad():
        ((features, labels),) = probe.embed(model, [item])
        padded = F.pad(normalise(model, image[None]), (0, 26, 0, 24))
        maps = model.extract_feat(padded)
    assert labels.tolist() == [4, 2]
    for feature, box, level in zip(features, boxes, (0, 1)):
        expected = roi_align(
            maps[level], [torch.from_numpy(box[None])], 7, 1 / 2 ** (level + 2), 0, aligned=True
        )
        torch.testing.assert_close(feature, expected.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)


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
