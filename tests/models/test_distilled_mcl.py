"""MCL with a teacher against slow references, and from images to a checkpoint without the teacher."""

import copy
import math
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn

from conftest import ROOT, call_tool, draw_images
from mcl_mm.datasets import BadImageError
from mcl_mm.datasets.teacher_cache import TeacherCache
from mcl_mm.evaluation.cost import count, multiply_adds
from mcl_mm.evaluation.run_page import pictures as run_pictures
from mcl_mm.models import DistillationHead, MontageTransform, Teacher
from mcl_mm.models.distilled_mcl import centre
from mcl_mm.models.teacher import pool
from mcl_mm.registry import MODELS, TRANSFORMS
from mcl_mm.transfer import read_checkpoint
from mcl_mm.transfer.export import export
from processes import run_ranks
from tiny_runs import WORKERS, check_same_run, curves, fault, run

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
WEIGHTS = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
RESNET = dict(
    type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8, out_indices=(2, 3)
)


@MODELS.register_module()
class Looking(nn.Module):
    """Shows what a teacher's network is given."""

    def forward(self, images):
        self.seen, self.autocast = images, torch.is_autocast_enabled('cpu')
        self.dtype = torch.get_autocast_dtype('cpu')
        return images


def make_head(**settings):
    torch.manual_seed(0)
    return DistillationHead(6, in_channels=8, hid_channels=16, **settings).double()


@pytest.fixture
def distilled(tiny_config):
    """A student of 8 channels and a ResNet of other channels that teaches it."""
    tiny_config.update(
        type='mcl_mm.DistilledMCL',
        teacher=dict(type='mcl_mm.Teacher', backbone=RESNET, size=48),
        head=dict(type='mcl_mm.DistillationHead', in_channels=8, hid_channels=16),
    )
    tiny_config['data_preprocessor']['type'] = 'mcl_mm.DistillationDataPreprocessor'
    return tiny_config


def batch_for(model, views, count, side=48):
    images = torch.randint(0, 256, (count, 3, side, side)).byte()
    return model.data_preprocessor(dict(inputs=[*views(count), images]))['inputs']


# ---- the loss


@pytest.mark.parametrize(('a', 'b', 't'), [(1.0, 1.0, 0.1), (1.0, 0.0, 0.1), (0.0, 2.0, 0.5)])
def test_head_equals_slow_reference(a, b, t):
    """Written with loops: for each tile its own cosine, and its share of all exponentials."""
    head = make_head(cosine_weight=a, contrast_weight=b, temperature=t)
    generator = torch.Generator().manual_seed(1)
    taught = torch.randn(5, 6, dtype=torch.float64, generator=generator)
    online = {
        k: torch.randn(n, 8, dtype=torch.float64, generator=generator)
        for k, n in enumerate((5, 8, 16, 64))
    }
    sources = [torch.randint(0, 5, (len(x),), generator=generator) for x in online.values()]
    scalars = head.loss(online, sources, centre(taught), 'q')

    mean = [sum(row[d].item() for row in taught) / 5 for d in range(6)]
    targets = [[row[d].item() - mean[d] for d in range(6)] for row in taught]
    targets = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in targets]
    for level, weight in enumerate(WEIGHTS):
        predicted = head.predict(online[level], level)
        losses, cosines = [], []
        for tile, source in zip(predicted.tolist(), sources[level].tolist()):
            length = math.sqrt(sum(x * x for x in tile))
            cosine = [sum(x * z for x, z in zip(tile, row)) / length for row in targets]
            share = math.exp(cosine[source] / t) / sum(math.exp(c / t) for c in cosine)
            losses.append(a * (2 - 2 * cosine[source]) - b * 2 * t * math.log(share))
            cosines.append(cosine[source])
        expected = weight * sum(losses) / len(losses)
        assert scalars[f'loss_q_level_{level}'].item() == pytest.approx(expected, rel=1e-9)
        mean_cosine = sum(cosines) / len(cosines)
        assert scalars[f'pos_cos_q_level_{level}'].item() == pytest.approx(mean_cosine, rel=1e-9)


def test_what_all_images_share_teaches_nothing():
    embeddings = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    expected = centre(embeddings)
    torch.testing.assert_close(
        centre(3 * embeddings + torch.full((5,), 40.0)), expected, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(7))


def test_tiles_are_taught_by_their_own_images(distilled, build, views):
    """Predictors that know the teacher's answer have a cosine of 1; with other sources they do not."""
    model = build(distilled).train()
    inputs = batch_for(model, views, 6)
    target = centre(model.teacher(inputs[2]))
    model.head.predict = lambda embedding, level: embedding
    model.embed_tiles = lambda side, levels: {k: target[side.sources[k]] for k in levels}
    scalars = model.loss(inputs)
    found = {name: value.item() for name, value in scalars.items() if 'pos_cos' in name}
    assert found == pytest.approx({f'pos_cos_{s}_level_{k}': 1 for s in 'qk' for k in range(4)})
    model.embed_tiles = lambda side, levels: {k: target[(side.sources[k] + 1) % 6] for k in levels}
    assert all(v < 0.99 for n, v in model.loss(inputs).items() if 'pos_cos' in n)


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
@pytest.mark.parametrize('early', [False, True])
def test_every_parameter_learns_and_the_teacher_does_not(distilled, build, views, joint, early):
    model = build(dict(distilled, joint=joint, early_backward=early)).train()
    before = copy.deepcopy(model.teacher.backbone.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        model.train()
        loss, _ = model.parse_losses(model.loss(batch_for(model, views, 4)))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
    after = model.teacher.backbone.state_dict()  # statistics of batch norm are in it
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(m.training for m in model.teacher.backbone.modules())
    assert not any(
        p.requires_grad or p.grad is not None for p in model.teacher.backbone.parameters()
    )


def test_the_teacher_is_no_part_of_the_model(distilled, build):
    model = build(distilled)
    own = {id(value) for value in model.teacher.backbone.state_dict(keep_vars=True).values()}
    inside = [*model.parameters(), *model.buffers(), *model.state_dict(keep_vars=True).values()]
    assert own.isdisjoint(map(id, inside))
    assert not any(
        'teacher' in name for name in (*model.state_dict(), *dict(model.named_modules()))
    )
    assert copy.deepcopy(model).teacher is model.teacher  # as a moving average of the model has it
    model.eval()
    assert model.head.predict(torch.zeros(2, 8), 0).shape[1] == model.teacher.channels == 64


# ---- several processes


def one_rank(rank, config):
    loss, gradients = compute(config, [rank])
    return loss, {name: value.numpy() for name, value in gradients.items()}


def compute(config, ranks, images=4):
    """Loss and gradients of the images of some ranks."""
    torch.manual_seed(0)
    model = MODELS.build(config).double()
    generators = [torch.Generator().manual_seed(rank) for rank in ranks]
    views, sources = [], [torch.arange(images * len(ranks))]
    for _ in range(4):
        views.append(
            torch.cat(
                [
                    torch.randn(images, 3, 64, 64, dtype=torch.float64, generator=g)
                    for g in generators
                ]
            )
        )
    for count_ in (4, 16, 64):
        drawn = [torch.randint(0, images, (count_,), generator=g) for g in generators]
        sources.append(torch.cat([part + images * i for i, part in enumerate(drawn)]))
    seen = torch.cat([torch.randint(0, 256, (images, 3, 48, 48), generator=g) for g in generators])
    transform = MontageTransform(num_sheets=[images * len(ranks)] + [len(ranks)] * 3)
    sides = transform(views, views, sources=(sources, sources))
    loss = model.parse_losses(model.loss((*sides, seen)))[0]
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters()}


def test_processes_equal_one(distilled, free_port):
    """Gathered by rank: the mean of the processes' losses and gradients is that of the whole batch."""
    norm_cfg = dict(type='GN', num_groups=4)
    for part in ('backbone', 'neck', 'head'):
        distilled[part]['norm_cfg'] = norm_cfg
    results = run_ranks(one_rank, 2, free_port, distilled)
    loss, gradients = compute(distilled, [0, 1])
    assert sum(result[0] for result in results) / 2 == pytest.approx(loss, rel=1e-6)
    for name, gradient in gradients.items():
        mean = sum(torch.from_numpy(result[1][name]) for result in results) / 2
        torch.testing.assert_close(mean, gradient, rtol=1e-5, atol=1e-8)


# ---- the teacher


def normalise(images, mean, std):
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (mean, std))
    return (images.flip(1) - mean) / std


def looking(**settings):
    return Teacher(dict(type='mcl_mm.Looking'), size=4, mean=MEAN, std=STD, **settings)


def test_a_teacher_sees_its_own_normalisation():
    """BGR (50, 170, 150) is RGB (150, 170, 50): ((150-100)/50, (170-110)/60, (50-120)/70) = (1, 1, -1)."""
    image = torch.tensor([50, 170, 150], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 4, 4)
    torch.testing.assert_close(looking()(image), torch.tensor([[1.0, 1, -1]] * 2))
    kept = [(50 - 100) / 50, (170 - 110) / 60, (150 - 120) / 70]
    torch.testing.assert_close(looking(bgr_to_rgb=False)(image), torch.tensor([kept] * 2))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r'takes images of \(3, 4, 4\), got \(3, 5, 4\)'):
        looking()(torch.zeros(2, 3, 5, 4))


def test_the_students_settings_do_not_reach_the_teacher(distilled, build, views):
    """What the data preprocessor does to views, it does not do to the teacher's images."""
    model = build(distilled)
    images = torch.randint(0, 256, (4, 3, 48, 48)).byte()
    inputs = model.data_preprocessor(dict(inputs=[*views(4), images]))['inputs']
    assert torch.equal(inputs[2], images)
    assert len(inputs) == 3


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('outer', [False, True])
def test_a_teachers_precision_is_its_own(dtype, outer):
    teacher = looking(dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16, enabled=outer):
        embedding = teacher(torch.zeros(2, 3, 4, 4))
    assert teacher.backbone.autocast == (dtype != 'float32')
    if dtype != 'float32':
        assert teacher.backbone.dtype == getattr(torch, dtype)
    assert embedding.dtype == torch.float32


def test_outputs_of_networks_are_pooled():
    maps, tokens = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 5)
    torch.testing.assert_close(pool((None, maps)), maps.flatten(2).sum(2) / 12)
    assert torch.equal(pool(tokens), tokens[:, 0])
    torch.testing.assert_close(pool(tokens, 0), tokens.sum(1) / 7)
    assert torch.equal(pool([tokens[:, 3]]), tokens[:, 3])
    for other in (dict(a=1), torch.zeros(3), []):
        with pytest.raises((ValueError, IndexError)):
            pool(other)


TIMM = dict(type='mmpretrain.TIMMBackbone')
DINO = 'vit_small_patch14_dinov2'


@pytest.mark.parametrize(
    ('backbone', 'size', 'channels', 'tokens'),
    [
        (dict(TIMM, model_name=DINO, img_size=56), 56, 384, 17),
        (dict(TIMM, model_name='vit_small_patch14_reg4_dinov2', img_size=56), 56, 384, 21),
        (dict(TIMM, model_name='vit_small_patch16_dinov3'), 64, 384, 21),
        (dict(TIMM, model_name='convnext_tiny', depths=(1, 1, 1, 1)), 64, 768, None),
        (
            dict(
                type='mmpretrain.VisionTransformer',
                arch='dinov2-small',
                img_size=518,
                patch_size=14,
                layer_scale_init_value=1e-5,
            ),
            56,
            384,
            None,
        ),
        (dict(type='mmpretrain.ConvNeXt', arch='tiny'), 64, 768, None),
    ],
)
def test_foundation_models_are_built_and_give_their_class_token(backbone, size, channels, tokens):
    """With random weights: the published ones are not here."""
    teacher = Teacher(backbone, size=size)
    assert teacher.channels == channels
    images = torch.randint(0, 256, (2, 3, teacher.size, teacher.size))
    embedding = teacher(images)
    assert embedding.shape == (2, channels)
    assert embedding.isfinite().all()
    if tokens:  # timm's own way to the class token
        x = normalise(images, teacher.mean, teacher.std)
        features = teacher.backbone.timm_model.forward_features(x)
        assert features.shape[1] == tokens
        torch.testing.assert_close(embedding, features[:, 0], rtol=1e-4, atol=1e-4)


BLOCKS = re.findall(r'```python\n(teacher = .*?)```', (ROOT / 'docs/distill.md').read_text(), re.S)


@pytest.mark.parametrize('block', BLOCKS, ids=range(len(BLOCKS)))
def test_documented_teachers_can_be_built(block):
    """As they stand on the page, but for the files of weights, which are not here."""
    found = {}
    exec(block, found)
    teacher = found['teacher']
    for name in ('_delete_', 'init_cfg', 'pretrained'):
        teacher['backbone'].pop(name, None)
    teacher['backbone'].update(
        (k, v.partition('.')[0]) for k, v in teacher['backbone'].items() if k == 'model_name'
    )
    assert MODELS.build(dict(teacher, type='mcl_mm.Teacher')).channels in (768, 2048)


def test_cost_holds_the_teachers_forward_pass(distilled):
    """The step of a larger teacher costs more by what its network costs, counted by itself."""
    small, large = (
        dict(distilled, teacher=dict(distilled['teacher'], size=size)) for size in (32, 96)
    )
    steps = [multiply_adds(config, 8, 64)[0] for config in (small, large)]
    backbone, scale = MODELS.build(RESNET), torch.ones((), requires_grad=True)
    backbone.eval()

    def forward(side):
        with torch.no_grad():
            backbone(torch.zeros(1, 3, side, side))
        return 1 * scale

    alone = [count(lambda side=side: forward(side)) for side in (32, 96)]
    assert steps[1] - steps[0] == pytest.approx(alone[1] - alone[0], rel=1e-9)


def test_whole_image_is_the_same_every_time_and_the_views_are_not():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 60, 3), np.uint8)
    view = dict(type='mcl_mm.NativeViews', side=32, ratios=[1])
    transform = TRANSFORMS.build(dict(type='mcl_mm.TeacherView', size=24, views=view))
    one, other = (transform(dict(img=image.copy()))['img'] for _ in range(2))
    assert [part.shape for part in one] == [(32, 32, 3), (32, 32, 3), (24, 24, 3)]
    assert (one[2] == other[2]).all()
    assert (one[0] != other[0]).any()
    pillow = np.asarray(Image.fromarray(image).resize((24, 24), Image.BILINEAR)).astype(int)
    assert abs(one[2].astype(int) - pillow).max() <= 1


# ---- runs


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Nine images, a teacher's file, and the recipe at a size for tests."""
    folder = tmp_path_factory.mktemp('distilled')
    draw_images(folder / 'images', 9)
    torch.manual_seed(3)
    teacher = MODELS.build(RESNET)
    weights = {f'backbone.{name}': value for name, value in teacher.state_dict().items()}
    torch.save(dict(state_dict=weights), folder / 'teacher.pth')
    for file, absent in (('half', 'layer4'), ('almost', 'layer1.0.conv1')):
        kept = {name: value for name, value in weights.items() if absent not in name}
        torch.save(dict(state_dict=kept), folder / f'{file}.pth')
    torch.save(dict(state_dict={'other.weight': torch.ones(3)}), folder / 'nothing.pth')
    wide = MODELS.build(dict(RESNET, base_channels=16)).state_dict()
    torch.save({f'backbone.{n}': v for n, v in wide.items()}, folder / 'wide.pth')
    other = {name: value * 1.5 for name, value in weights.items()}
    torch.save(dict(state_dict=other), folder / 'other.pth')
    (folder / 'config.py').write_text(f"""
_base_ = {str(ROOT / 'configs/distill/small_student.py')!r}
custom_imports = dict(imports=['faults'])
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8),
    head=dict(in_channels=8, hid_channels=16),
    channels_last=False,
    teacher=dict(
        size=48,
        backbone=dict(
            stem_channels=8,
            base_channels=8,
            init_cfg=dict(checkpoint={str(folder / 'teacher.pth')!r}),
        ),
    ),
)
pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[1].size = 48
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root={str(folder / 'images')!r}, pipeline=pipeline),
)
train_cfg = dict(max_iters=6)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=6, T_max=6)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=3))
log_level = 'WARNING'
""")
    run(folder / 'config.py', folder / 'whole')
    return folder


def test_a_checkpoint_and_an_export_hold_the_student_alone(folder, tmp_path):
    path = (folder / 'whole/last_checkpoint').read_text()
    weights = read_checkpoint(path)['state_dict']
    assert {name.split('.')[0] for name in weights} == {'backbone', 'neck', 'head'}
    optimizer = torch.load(path, weights_only=False)['optimizer']
    learning = [n for n in weights if not re.search('running_|num_batches', n)]
    assert sum(len(group['params']) for group in optimizer['param_groups']) == len(learning)
    pictures, _ = run_pictures(folder / 'whole', 6, 0)
    assert [title.split(': ')[1] for title, _ in pictures] == ['sheets']
    export(path, str(tmp_path / 'export.pth'))
    exported = read_checkpoint(tmp_path / 'export.pth')
    student = {n: v for n, v in weights.items() if n.startswith('backbone.')}
    assert all(torch.equal(exported['state_dict'][n], v) for n, v in student.items())
    assert not any('teacher' in name for name in exported['state_dict'])
    assert exported['meta']['backbone']['base_channels'] == 8


def test_a_fingerprint_is_that_of_the_weights_that_were_loaded(folder):
    backbones = [
        dict(
            RESNET,
            init_cfg=dict(type='Pretrained', checkpoint=str(folder / file), prefix='backbone'),
        )
        for file in ('teacher.pth', 'teacher.pth', 'other.pth')
    ]
    teachers = [MODELS.build(dict(type='mcl_mm.Teacher', backbone=b, size=48)) for b in backbones]
    random = [teacher.fingerprint() for teacher in teachers]
    for teacher in teachers:
        teacher.init_weights()
    one, same, other = [teacher.fingerprint() for teacher in teachers]
    assert one == same != other
    assert one not in random


def test_an_export_is_a_teacher(folder, tmp_path):
    """MMPretrain's ResNet takes the backbone of an export of ours; its pooled last map is the embedding."""
    export((folder / 'whole/last_checkpoint').read_text(), str(tmp_path / 'export.pth'))
    source = dict(type='Pretrained', checkpoint=str(tmp_path / 'export.pth'), prefix='backbone')
    teacher = Teacher(dict(RESNET, init_cfg=source), size=32, mean=MEAN, std=STD)
    teacher.init_weights()
    images = torch.randint(0, 256, (3, 3, 32, 32))
    backbone = MODELS.build(RESNET)
    weights = read_checkpoint(tmp_path / 'export.pth')['state_dict']
    backbone.load_state_dict({n[9:]: v for n, v in weights.items() if n.startswith('backbone.')})
    backbone.eval()
    with torch.no_grad():
        expected = backbone(normalise(images, MEAN, STD))[-1].mean((2, 3))
    torch.testing.assert_close(teacher(images), expected)


def test_a_run_is_not_measured_by_the_chance_of_another_loss(folder):
    """MonitorHook knows what blind predictions lose by MCL's loss, which this is not."""
    logged = curves(folder / 'whole')
    assert all('acc_q_level_0' in scalars for scalars in logged.values())
    assert not any('chance' in name for scalars in logged.values() for name in scalars)
    assert 'at chance' not in Path(f'{folder}/whole.log').read_text()


def test_a_resumed_run_ends_as_an_unbroken_one(folder):
    run(folder / 'config.py', folder / 'broken', *fault(5), code=1)
    run(folder / 'config.py', folder / 'broken')
    check_same_run(folder / 'broken', folder / 'whole')


def test_a_run_resumed_with_another_teacher_says_so(folder):
    run(folder / 'config.py', folder / 'changed', *fault(5), code=1)
    printed = run(folder / 'config.py', folder / 'changed',
                  f'model.teacher.backbone.init_cfg.checkpoint={folder}/other.pth')  # fmt: skip
    assert re.search(r'differs from the one saved \(teacher \w{16} -> \w{16}\)', printed)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['{file}=nothing.pth'], r'model\.teacher\.backbone\.init_cfg would load nothing'),
        (['{file}=half.pth'], r'half\.pth: the backbones differ'),
        (['{file}=almost.pth'], r'1 weights of model\.teacher\.backbone are not in \S+almost\.pth'),
        (['{file}=wide.pth'], r'model\.teacher\.backbone'),
        (['model.teacher.backbone.depth=17'], 'model.teacher.backbone cannot be built: '),
        (['{file}=missing.pth'], r'no checkpoint at \S+missing\.pth'),
        (['model.teacher.backbone.init_cfg=None'], 'the teacher has random weights: set model'),
        (['model.teacher.size=64'], 'images of 48 pixels, and model.teacher takes 64'),
        (['model.teacher.dtype=int8'], r'model\.teacher\.dtype must be one of'),
        (['model.teacher.std=[1.0,0.0,1.0]'], r'model\.teacher\.mean and std must be three'),
        (['model.head.cosine_weight=-1.0'], 'must not be negative'),
        (['train_dataloader.batch_size=1'], 'one image has no negatives'),
    ],
)  # fmt: skip
def test_what_cannot_teach_ends_before_training(folder, options, message):
    key = 'model.teacher.backbone.init_cfg.checkpoint'
    options = [option.replace('{file}=', f'{key}={folder}/') for option in options]
    printed = run(folder / 'config.py', folder / 'refused', *options, code=1)
    (folder / 'refused.log').unlink()
    lines = [line for line in printed.splitlines() if re.search('Error', line)]
    assert re.search(message, lines[-1]), printed[-2000:]


# ---- embeddings in a file


@pytest.fixture(scope='module')
def cached(folder):
    """Embeddings of the nine images, one of which cannot be read, by the command."""
    images = folder / 'with_bad'
    shutil.copytree(folder / 'images', images)
    (images / '0003.jpg').write_bytes(b'no image')
    path = folder / 'cache.safetensors'
    with pytest.MonkeyPatch.context() as patch:
        call_tool(patch, 'cache-teacher', folder / 'config.py', '--data', images, '--out', path,
                  '--batch-size', '4', '--workers', '0', '--device', 'cpu')  # fmt: skip
    return images, path


def test_embeddings_in_the_file_are_those_the_teacher_computes(folder, cached):
    """Each from the image read by itself, by another road: Pillow, its resizing, and the bare network."""
    images, path = cached
    cache = TeacherCache(str(path))
    assert len(cache.rows) == 9
    backbone = MODELS.build(RESNET)
    weights = read_checkpoint(folder / 'teacher.pth')['state_dict']
    backbone.load_state_dict({n[9:]: v for n, v in weights.items()})
    backbone.eval()
    model = Config.fromfile(folder / 'config.py').model.teacher
    teacher = MODELS.build(dict(model, type='mcl_mm.Teacher'))
    teacher.init_weights()
    for name in sorted(images.iterdir()):
        if name.name == '0003.jpg':
            with pytest.raises(BadImageError, match='not readable: not when .* was written'):
                cache.read(str(name))
            continue
        view = TRANSFORMS.build(dict(type='mcl_mm.TeacherView', size=48, views=[]))
        whole = view.whole(
            TRANSFORMS.build(dict(type='mcl_mm.LoadAnyImage'))(dict(img_path=str(name)))['img']
        )
        image = torch.from_numpy(np.ascontiguousarray(whole.transpose(2, 0, 1)))[None]
        embedding = cache.read(str(name))
        torch.testing.assert_close(teacher(image)[0], embedding, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            alone = backbone(normalise(image, teacher.mean, teacher.std))[-1].mean((2, 3))[0]
        torch.testing.assert_close(alone, embedding, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r'has no embedding in .*: write that file again'):
        cache.read(str(images / 'other.jpg'))
    assert os.path.relpath(name) in cache  # the same file, written otherwise
    again = pickle.loads(pickle.dumps(cache))  # as a worker gets it
    assert torch.equal(again.read(str(name)), embedding)


def with_cache(folder, images, path):
    """Settings of a run that takes the file."""
    pipeline = Config.fromfile(folder / 'config.py').train_dataloader.dataset.pipeline
    text = folder / f'{path.stem}.py'
    text.write_text(f"""
_base_ = {str(folder / 'config.py')!r}
pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[1].cache = {str(path)!r}
train_dataloader = dict(dataset=dict(data_root={str(images)!r}, pipeline=pipeline))
""")
    assert pipeline[1].type == 'TeacherView'
    return text


def test_a_run_with_the_file_learns_as_one_without(folder, cached):
    """The same losses, up to how the sums of a batch are rounded; with workers, too."""
    images, path = cached
    config = with_cache(folder, images, path)
    data = f'train_dataloader.dataset.data_root={images}'
    run(folder / 'config.py', folder / 'computed', data)
    run(config, folder / 'cached')
    run(config, folder / 'cached_workers', *WORKERS)
    one, other = (curves(folder / name) for name in ('computed', 'cached'))
    assert [other[k]['loss'] for k in other] == pytest.approx(
        [one[k]['loss'] for k in one], rel=1e-3
    )
    check_same_run(folder / 'cached_workers', folder / 'cached')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ['model.teacher.backbone.init_cfg.checkpoint={folder}/other.pth'],
            'another teacher, or of other',
        ),
        (
            ['model.teacher.mean=[1.0,2.0,3.0]'],
            'another teacher, or of other weights: write it again',
        ),
        (['train_dataloader.dataset.pipeline.0.min_side=20'], 'were prepared as .*min_side=20'),
        (
            ['train_dataloader.dataset.pipeline.1.size=64', 'model.teacher.size=64'],
            'another teacher',
        ),
        (
            ['train_dataloader.dataset.data_root={folder}/images'],
            r'has no embedding of \S+images/0000\.jpg',
        ),
        (
            ['train_dataloader.dataset.pipeline.1.cache={folder}/none'],
            'mcl-mm cache-teacher CONFIG --out',
        ),
        (
            ['train_dataloader.dataset.pipeline.1.cache={folder}/teacher.pth'],
            'holds no embeddings of a teacher',
        ),
    ],
)
def test_a_file_of_other_embeddings_is_refused(folder, cached, options, message):
    config = with_cache(folder, *cached)
    options = [option.replace('{folder}', str(folder)) for option in options]
    printed = run(config, folder / 'refused', *options, code=1)
    (folder / 'refused.log').unlink()
    lines = [line for line in printed.splitlines() if re.search('Error', line)]
    assert re.search(message, lines[-1]), printed[-2000:]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['quickstart/pretrain', '--out', 'a.safetensors'], r'has no model\.teacher'),
        (['distill/small_student', '--out', 'a.npz'], r'must end in \.safetensors, not a\.npz'),
        (['distill/small_student', '--out', 'a.safetensors', '--batch-size', '0'], 'at least 1'),
        (['{folder}/config.py', '--out', 'a.safetensors', '--data', '/nowhere'], '/nowhere'),
        # Before the config, which is not there either, and before images are read for hours.
        (['/nowhere.py', '--out', '{folder}/config.py/a.safetensors'], r'Error: .*/config\.py'),
        (
            ['{folder}/config.py', '--out', 'a.safetensors', '--cfg-options',
             'model.teacher.backbone.init_cfg.checkpoint={folder}/almost.pth'],
            r'are not in \S+almost\.pth',
        ),
    ],
)  # fmt: skip
def test_the_command_refuses_in_one_sentence(folder, monkeypatch, arguments, message):
    arguments = [argument.replace('{folder}', str(folder)) for argument in arguments]
    with pytest.raises(SystemExit, match=message):
        call_tool(monkeypatch, 'cache-teacher', *arguments)
