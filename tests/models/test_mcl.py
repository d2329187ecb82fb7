"""MCL as a whole: target, learning, checkpoints."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.model import convert_sync_batchnorm
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from mcl_mm.engine import cosine_momentum
from tiny_models import prepare, total

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def test_target_starts_as_a_copy_without_gradient(tiny_config, build):
    model = build(tiny_config)
    for part in ('backbone', 'neck'):
        online, target = getattr(model, part), model.target[part]
        assert not any(p.requires_grad for p in target.parameters())
        for ours, theirs in zip(online.state_dict().values(), target.state_dict().values()):
            assert torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()


def test_update_follows_the_formula_and_leaves_buffers_alone(tiny_config, build, views):
    model = build(tiny_config).train()
    names = [n for n, _ in model.target.named_parameters()]
    expected = {n: p.clone().double() for n, p in model.target.named_parameters()}
    model.loss(prepare(model, views(4)))  # gives the target BN statistics of its own
    buffers = {n: b.clone() for n, b in model.target.named_buffers()}
    for update in range(4):
        with torch.no_grad():
            for p in (*model.backbone.parameters(), *model.neck.parameters()):
                p.add_(torch.randn_like(p))
        m = cosine_momentum(0.9, update, 4)
        online = dict(model.named_parameters())
        for n in names:
            expected[n] = m * expected[n] + (1 - m) * online[n].detach().double()
        model.update_target(m)
    for n, p in model.target.named_parameters():
        torch.testing.assert_close(p.double(), expected[n], rtol=1e-5, atol=1e-6)
    for n, b in model.target.named_buffers():
        assert torch.equal(b, buffers[n]), n
    assert buffers['backbone.bn1.num_batches_tracked'] == 2  # sides q and k


def test_each_side_learns_from_the_other(tiny_config, build, views):
    """Targets of side q enter the losses of side k only, and of k those of q."""
    model = build(tiny_config).train()
    q, k = prepare(model, views(4))
    before = model.loss((q, k))
    target_q, target_k = model.embed_images(q), model.embed_images(k)
    for changed, side in ((q, 'k'), (k, 'q')):

        def embed_images(montage, changed=changed):
            embedded = target_q if montage is q else target_k
            return embedded.roll(1, 0) if montage is changed else embedded

        model.embed_images = embed_images
        after = model.loss((q, k))
        for name, value in before.items():
            if name.startswith('loss'):
                assert (value == after[name]).item() == (f'loss_{side}' not in name), name


def test_one_sided_is_the_part_of_side_q(tiny_config, build, views, monkeypatch):
    both = build(tiny_config).train()
    one = build(dict(tiny_config, symmetric=False)).train()
    sheets = prepare(both, views(4))
    expected, losses = both.loss(sheets), one.loss(sheets)
    assert losses.keys() == {name for name in expected if '_q_' in name}
    for name, value in losses.items():
        assert torch.equal(value, expected[name]), name
    calls = []
    for name in ('embed_tiles', 'embed_images'):
        embed = getattr(one, name)
        monkeypatch.setattr(
            one, name, lambda m, *a, n=name, e=embed: calls.append((n, m)) or e(m, *a)
        )
    one.loss(sheets)
    assert [(name, montage is sheets[1]) for name, montage in calls] == [
        ('embed_images', True),
        ('embed_tiles', False),
    ]


def test_every_online_parameter_gets_a_gradient(tiny_config, build, views):
    model = build(tiny_config).train()
    total(model.loss(prepare(model, views(4)))).backward()
    for name, p in model.named_parameters():
        assert (p.grad is None) == name.startswith('target.'), name


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_overfits_eight_images(tiny_config, build, image_folder, joint):
    """The loss falls, and tiles come to find their own image among the targets."""
    paths = sorted(image_folder.iterdir())[:8]
    images = torch.stack([pil_to_tensor(Image.open(p).resize((64, 64))) for p in paths])
    torch.manual_seed(0)
    shades = 0.8 + 0.4 * torch.rand(8, 8, 1, 1, 1)  # eight views, each a little darker or brighter
    views = [(images * shade).clamp(0, 255).byte() for shade in shades]
    model = build(dict(tiny_config, joint=joint)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(80):
        losses = model.loss(prepare(model, views))
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        model.update_target(0.9)
        history.append(total(losses).item())
    assert history[0] == pytest.approx(4 * math.log(8), rel=0.1)
    assert history[-1] < history[0] - 0.8

    q, k = prepare(model, views)
    online, target = model.embed_tiles(q), model.embed_images(k)
    for level, source in enumerate(q.sources):
        predicted = model.head.predictors[level]((online[level],))[0]
        found = (F.normalize(predicted) @ F.normalize(target).t()).argmax(1)
        assert (found == source).float().mean() > (0.8, 0.5, 0.25, 0.2)[level], (
            level
        )  # chance: 0.125


def test_checkpoint_without_a_target_starts_it_from_the_online(tiny_config, build):
    donor, model = build(tiny_config), build(tiny_config)
    with torch.no_grad():
        for p in donor.parameters():
            p.add_(1)
    weights = {k: v for k, v in donor.state_dict().items() if not k.startswith('target.')}
    for load in (
        lambda m, w: m.load_state_dict(w, strict=False),
        lambda m, w: _load_checkpoint_to_model(m, dict(state_dict=w)),
    ):
        load(model, dict(weights))
        for n, p in model.target.named_parameters():
            assert torch.equal(p, weights[n])
        model.init_weights()


@pytest.mark.parametrize(('prefix', 'written'), [(None, ''), ('backbone.', 'backbone.'),
                                                 ('module.encoder_q.', 'module.encoder_q.')])  # fmt: skip
def test_pretraining_can_begin_from_another_methods_resnet(
    tiny_config, build, tmp_path, prefix, written
):
    """torchvision and timm (no prefix), mmpretrain, MoCo: online and target begin with it."""
    weights = torchvision.models.resnet18().state_dict()
    torch.save(dict(state_dict={written + k: v for k, v in weights.items()}), tmp_path / 'a.pth')
    tiny_config['backbone'].update(
        stem_channels=64,
        base_channels=64,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix=prefix),
    )
    tiny_config['neck'].update(in_channels=[64, 128, 256, 512])
    model = build(tiny_config)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, weights[name]), name
        assert torch.equal(model.target.backbone.state_dict()[name], weights[name]), name


def test_checkpoint_with_a_target_keeps_it(tiny_config, build):
    donor, model = build(tiny_config), build(tiny_config)
    with torch.no_grad():
        for p in donor.target.parameters():
            p.add_(1)
    model.load_state_dict(donor.state_dict())
    for ours, theirs in zip(model.target.parameters(), donor.target.parameters()):
        assert torch.equal(ours, theirs)


def test_forgotten_target_updates_are_noticed(tiny_config, build, views, monkeypatch):
    model = build(tiny_config).train()
    monkeypatch.setattr(type(model), 'MAX_LOSSES_WITHOUT_UPDATE', 2)
    batch = prepare(model, views(2, side=32))
    for _ in range(2):
        model(batch, mode='loss')
    with pytest.raises(RuntimeError, match='TargetUpdateHook'):
        model(batch, mode='loss')
    model.update_target(0.99)
    model(batch, mode='loss')


@pytest.mark.parametrize('levels', [1, 2, 3])
def test_fewer_levels(tiny_config, build, views, levels):
    ratios, ones = [2**k for k in range(levels)], [1] * levels
    montage = dict(type='MontageTransform', ratios=ratios, appearances=ones)
    tiny_config['data_preprocessor'].update(montage=montage)
    tiny_config['head'].update(loss_weights=ones)
    model = build(tiny_config).train()
    losses = model.loss(prepare(model, views(4)[: 2 * levels]))
    assert sum(key.startswith('loss') for key in losses) == 2 * levels
    assert total(losses).item() == pytest.approx(2 * levels * 2 * math.log(4), rel=0.3)


@pytest.mark.parametrize(
    ('device', 'dtype'),
    [
        ('cpu', torch.bfloat16),
        pytest.param('cuda', torch.bfloat16, marks=NEEDS_GPU),
        pytest.param('cuda', torch.float16, marks=NEEDS_GPU),
    ],
)
def test_mixed_precision_step(tiny_config, build, views, device, dtype):
    """Losses stay in float32, near those of full precision, and every gradient is there."""
    model = build(tiny_config).to(device).train()
    montages = prepare(model, views(8))
    exact = total(model.loss(montages)).item()
    with torch.autocast(device, dtype=dtype):
        losses = model.loss(montages)
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert total(losses).item() == pytest.approx(exact, rel=0.02)
    total(losses).backward()
    online = [p for n, p in model.named_parameters() if not n.startswith('target.')]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in online)
    model.update_target(0.99)


def test_batch_norm_becomes_synchronised_as_a_whole(tiny_config, build, views):
    """``sync_bn = 'torch'``: no layer is forgotten, and nothing is renamed."""
    model = build(tiny_config)
    names = list(model.state_dict())
    synchronised = convert_sync_batchnorm(model, 'torch').train()
    kinds = {
        type(m) for m in synchronised.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    }
    assert kinds == {nn.SyncBatchNorm}
    assert list(synchronised.state_dict()) == names
    assert total(synchronised.loss(prepare(synchronised, views(4)))).isfinite()
