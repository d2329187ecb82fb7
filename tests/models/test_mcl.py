"""MCL as a whole: target, learning, checkpoints."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.logging import MMLogger
from mmengine.model import convert_sync_batchnorm
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from mcl_mm.engine import cosine_momentum

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def total(losses):
    return sum(value for key, value in losses.items() if key.startswith('loss'))


def prepare(model, views):
    dtype = next(model.parameters()).dtype
    sides = model.data_preprocessor(dict(inputs=views))['inputs']
    return [m._replace(sheets=tuple(sheet.to(dtype) for sheet in m.sheets)) for m in sides]


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


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_embeddings_belong_to_their_tiles(group_norm_config, build, views, joint):
    """Slow reference: each level's sheets alone through the network, cell by cell."""
    model = build(dict(group_norm_config, joint=joint)).double().eval()
    q, _ = prepare(model, views(8))
    embedded = model.embed_tiles(q)
    for level, sheets in enumerate(q.sheets):
        assert embedded[level].shape == (len(q.sources[level]), 8)
        expected = model.neck(model.backbone(sheets))[level]
        torch.testing.assert_close(embedded[level], expected)
    images = model.target.neck(model.target.backbone(q.sheets[0]), [0])[0]
    torch.testing.assert_close(model.embed_images(q), images)


def test_what_is_joint_changes_neither_losses_nor_gradients_without_batch_norm(
    group_norm_config, build, views
):
    results = []
    for joint in ('all', 'backbone', 'none'):
        model = build(dict(group_norm_config, joint=joint)).double().train()
        torch.manual_seed(1)
        losses = model.loss(prepare(model, views(8)))
        total(losses).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((losses, gradients))
    (dense, dense_gradients), *others = results
    for losses, gradients in others:
        torch.testing.assert_close(losses, dense, rtol=1e-9, atol=1e-9)
        assert gradients.keys() == dense_gradients.keys()
        torch.testing.assert_close(gradients, dense_gradients, rtol=1e-6, atol=1e-9)


def test_a_joint_backbone_has_the_published_batches_and_the_rest_its_own(tiny_config, build, views):
    """What a batch of batch norm holds, by the running statistics of a first step."""
    statistics = {}
    for joint in ('all', 'backbone', 'none'):
        model = build(dict(tiny_config, joint=joint)).double().train()
        q, _ = prepare(model, views(8))
        model.embed_tiles(q)
        model.embed_images(q)
        statistics[joint] = {n: b for n, b in model.named_buffers() if 'running' in n}
    for name, value in statistics['all'].items():
        if name.startswith(('backbone.', 'target.backbone.')):
            assert torch.allclose(statistics['backbone'][name], value), name
            assert not torch.allclose(statistics['none'][name], value), name
    for part in ('', 'target.'):
        name = f'{part}neck.projector.convs.0.bn.running_mean'
        assert not torch.allclose(statistics['backbone'][name], statistics['all'][name])


@pytest.mark.parametrize(('routed', 'joint'), [(True, 'none'), (False, 'all')])
def test_configs_that_say_routed_go_on_working(tiny_config, build, caplog, routed, joint):
    """Also on top of a config that says `joint`, which they knew nothing of."""
    logger = MMLogger.get_instance('routed', log_level='WARNING')
    logger.addHandler(caplog.handler)
    assert build(dict(tiny_config, joint='backbone', routed=routed)).joint == joint
    (said,) = {r.getMessage() for r in caplog.records if 'routed' in r.getMessage()}
    assert f'joint={joint!r} for routed={routed}' in said


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


class Live:
    """A tensor kept for the backward pass; knows how many bytes are kept at a time."""

    bytes = peak = 0

    def __init__(self, tensor):
        self.tensor, self.size = tensor, tensor.nbytes
        Live.bytes += self.size
        Live.peak = max(Live.peak, Live.bytes)

    def __del__(self):
        Live.bytes -= self.size


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_early_backward_halves_what_is_kept_and_changes_no_gradient(
    tiny_config, build, views, joint
):
    results = []
    for early in (False, True):
        model = build(dict(tiny_config, joint=joint, early_backward=early)).double().train()
        Live.bytes = Live.peak = 0
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(Live, lambda live: live.tensor):
            losses = model.loss(prepare(model, views(8)))
            (3 * total(losses)).backward()  # as a loss scaler or accumulation does
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((losses, gradients, Live.peak))
    (losses, gradients, peak), (early_losses, early_gradients, early_peak) = results
    torch.testing.assert_close(early_losses, losses, rtol=0, atol=0)
    torch.testing.assert_close(early_gradients, gradients, rtol=1e-9, atol=1e-12)
    assert early_peak < (0.45 if joint == 'none' else 0.55) * peak


def test_early_backward_needs_no_gradients(tiny_config, build, views):
    model = build(dict(tiny_config, early_backward=True)).train()
    with torch.no_grad():
        losses = model.loss(prepare(model, views(4)))
    assert not total(losses).requires_grad


def test_early_backward_is_refused_where_a_loss_scaler_is_needed(tiny_config, build, views):
    model = build(dict(tiny_config, early_backward=True)).train()
    with torch.autocast('cpu', dtype=torch.float16), pytest.raises(ValueError, match='bfloat16'):
        model.loss(prepare(model, views(4)))


def test_tiles_that_are_not_pasted_are_images_of_their_own(group_norm_config, build, views):
    """Each is embedded from one cell of its level's map, whatever the others show."""
    montage = dict(type='mcl_mm.MontageTransform', pasted=False)
    group_norm_config['data_preprocessor']['montage'] = montage
    with pytest.raises(ValueError, match="joint='none'"):
        build(group_norm_config)
    model = build(dict(group_norm_config, joint='none')).train()
    q, k = prepare(model, views(8))
    assert [tuple(sheets.shape[::3]) for sheets in q.sheets] == [
        (8, 64),
        (8, 32),
        (16, 16),
        (64, 8),
    ]
    embedded = model.embed_tiles(q)
    assert [len(e) for e in embedded.values()] == [len(source) for source in q.sources]
    changed = q._replace(sheets=tuple(torch.cat([s[:1], 0 * s[1:]]) for s in q.sheets))
    for before, after in zip(embedded.values(), model.embed_tiles(changed).values()):
        torch.testing.assert_close(before[0], after[0], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(before[1], after[1])
    total(model.loss((q, k))).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_neck_takes_the_channels_of_the_backbone(tiny_config, build):
    expected = tiny_config['neck'].pop('in_channels')
    model = build(tiny_config)
    assert [conv.in_channels for conv in model.neck.fpn.lateral_convs] == expected
    assert 'in_channels' not in tiny_config['neck']
    assert model.backbone.bn1.num_batches_tracked == 0
    assert model.backbone.bn1.running_mean.eq(0).all()
    assert model.backbone.training


def test_backbones_with_other_stages_are_refused(tiny_config, build):
    del tiny_config['neck']['in_channels']
    tiny_config['backbone']['out_indices'] = (1, 2, 3)
    with pytest.raises(ValueError, match=r'stride \[8, 16, 32\].*out_indices'):
        build(tiny_config)


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


@pytest.mark.parametrize(
    ('part', 'setting', 'message'),
    [
        ('data_preprocessor', dict(montage=dict(type='MontageTransform', ratios=(1, 2, 4, 16))),
         r'ratios must be 1, 2, 4, .* got \(1, 2, 4, 16\)'),
        ('data_preprocessor',
         dict(montage=dict(type='MontageTransform', ratios=(1, 2, 4), appearances=(1, 1, 1))),
         r'montage \(3 ratios\) and head \(4 loss_weights\)'),
        ('head', dict(loss_weights=(0.5, 0.5)), r'head \(2 loss_weights\)'),
        ('neck', dict(in_channels=[8, 16, 32]), 'at most the 3 of the neck'),
    ],
)  # fmt: skip
def test_parts_that_differ_in_their_levels(tiny_config, build, part, setting, message):
    tiny_config[part].update(setting)
    with pytest.raises(ValueError, match=message):
        build(tiny_config)


def test_unknown_part_to_be_joint(tiny_config, build):
    with pytest.raises(ValueError, match="one of 'all', 'backbone', 'none', got 'neck'"):
        build(dict(tiny_config, joint='neck'))


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


def test_extract_feat_is_the_pyramid(tiny_config, build):
    model = build(tiny_config).eval()
    images = torch.randn(2, 3, 64, 96)
    maps = model(images, mode='tensor')
    assert [tuple(m.shape) for m in maps] == [(2, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    torch.testing.assert_close(maps, model.neck.fpn(model.backbone(images)))
