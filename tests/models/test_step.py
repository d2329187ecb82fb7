"""What the step around the network promises: nothing waits, nothing changes, nothing is lost."""

import copy
from contextlib import nullcontext

import pytest
import torch
from mmengine import dist
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn
from torch.nn.utils import clip_grad_norm_

from conftest import ROOT, draw_images
from mcl_mm.models import multi_level_contrastive_head as head_module
from mcl_mm.registry import MODELS
from tiny_models import total


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def native_views(batch_size, device='cpu'):
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch_size, 3, side, side) for side in (64, 32, 16, 8) * 2]
    if device == 'meta':
        return [torch.empty(shape, device='meta', dtype=torch.uint8) for shape in shapes]
    return [torch.randint(0, 256, shape, generator=generator).byte() for shape in shapes]


def fast_config(width=16):
    """Model and optimiser of the fast recipe, a fraction as wide, at 64 pixels."""
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e_fast.py')
    cfg.model.backbone.update(depth=18, stem_channels=width, base_channels=width)
    cfg.model.neck.update(
        in_channels=[width, 2 * width, 4 * width, 8 * width], out_channels=width, hid_channels=16,
        embed_channels=8,
    )  # fmt: skip
    cfg.model.head.update(in_channels=8, hid_channels=16)
    cfg.optim_wrapper.type = 'OptimWrapper'
    for key in ('loss_scale', 'dtype'):
        cfg.optim_wrapper.pop(key)
    return cfg


def build_fast(**changes):
    cfg = fast_config()
    cfg.model.update(changes)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        return model.train(), build_optim_wrapper(model, cfg.optim_wrapper)


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_a_whole_step_never_reads_from_the_device(monkeypatch, joint):
    """Meta tensors have no values: whoever waited for one would fail.

    Augmentation, montage, both branches, loss, backward, clipping, LARS and moving average.
    """
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())  # knows no meta device
    model, wrapper = build_fast(joint=joint)
    assert (model.joint, type(wrapper.optimizer).__module__) == (joint, 'mcl_mm.engine.lars')
    model.to('meta')
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        optimizer = build_optim_wrapper(model, fast_config().optim_wrapper).optimizer
    preprocessor = model.data_preprocessor
    preprocessor._device = torch.device('meta')
    montages = preprocessor(dict(inputs=native_views(8, 'meta')), training=True)['inputs']
    loss, _ = model.parse_losses(model.loss(montages))
    loss.backward()
    clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 500)
    optimizer.step()
    optimizer.zero_grad()
    model.update_target(0.99)
    with pytest.raises((RuntimeError, NotImplementedError)):
        loss.item()


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_channels_last_changes_the_memory_format_and_nothing_else(
    group_norm_config, build, views, joint
):
    # Sixteen channels: PyTorch 2.11 crashes on a CPU with fewer in 1x1 convs with stride 2.
    group_norm_config['backbone'].update(stem_channels=16, base_channels=16)
    group_norm_config['neck']['in_channels'] = [16, 32, 64, 128]
    weights, results = build(group_norm_config).state_dict(), []
    for channels_last in (False, True):
        config = dict(group_norm_config, joint=joint, channels_last=channels_last)
        model = build(config).double().train()
        model.load_state_dict(weights)  # initialisation draws in the order of memory
        seen = []
        for module in (model.backbone.layer1, model.neck.projector.convs[0], model.target.backbone):
            module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        torch.manual_seed(1)
        sides = model.data_preprocessor(dict(inputs=views(8)))['inputs']
        sides = [m._replace(sheets=tuple(s.double() for s in m.sheets)) for m in sides]
        losses = model.loss(sides)
        total(losses).backward()
        results.append((losses, gradients(model)))
        last = torch.channels_last
        if channels_last:
            convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
            assert all(conv.weight.is_contiguous(memory_format=last) for conv in convs)
            assert all(x.is_contiguous(memory_format=last) for x in seen if x.shape[1] > 3)
            online, target = (list(m.parameters()) for m in (model.backbone, model.target.backbone))
            assert [p.stride() for p in online] == [p.stride() for p in target]
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-10)


def test_one_all_gather_for_both_sides(tiny_config, build, views, monkeypatch):
    calls = []

    def count(data, *args):
        calls.append(data.shape)
        return dist.all_gather(data, *args)

    monkeypatch.setattr(head_module, 'all_gather', count)
    model = build(tiny_config)
    model.loss(model.data_preprocessor(dict(inputs=views(4)))['inputs'])
    assert calls == [(2, 4, 8)]  # sides, images, length of an embedding


def test_accumulated_gradient_is_the_mean_of_the_steps(group_norm_config, build):
    """Each step against its own targets, nothing lost, no factor left over."""
    model = build(group_norm_config).double().train()
    generator = torch.Generator().manual_seed(0)
    batches = [
        [torch.randn(4, 3, 64, 64, generator=generator, dtype=torch.float64) for _ in range(8)]
        for _ in range(3)
    ]

    def loss(views):
        torch.manual_seed(5)
        sheets = model.data_preprocessor.montage(views[:4], views[4:])
        return total(model.loss(sheets))

    alone = []
    for batch in batches:
        model.zero_grad()
        loss(batch).backward()
        alone.append(gradients(model))
    model.zero_grad()
    before = copy.deepcopy(model.state_dict())
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 6)
    for index, batch in enumerate(batches):
        assert wrapper.should_update() == (index == 0)  # counts from the update before
        wrapper.update_params(loss(batch))
    for name, p in model.named_parameters():
        if p.requires_grad:
            mean = sum(g[name] for g in alone) / 3
            torch.testing.assert_close(before[name] - p.detach(), mean, rtol=1e-9, atol=1e-12)


CHECKPOINTED = [
    *(f'backbone.layer{stage}' for stage in (1, 2, 3, 4)),
    *(f'{part}.convs' for part in ('neck.projector',)),
]


@pytest.mark.parametrize(('joint', 'passes'), [('backbone', 2), ('none', 8)])
def test_activation_checkpointing_gives_the_same_gradients(views, joint, passes):
    """With MMEngine's setting, and batch norm. The statistics of evaluation move twice a step."""
    results = []
    for modules in ([], CHECKPOINTED):
        model, _ = build_fast(joint=joint)
        turn_on_activation_checkpointing(model, modules)
        torch.manual_seed(1)
        losses = model.loss(model.data_preprocessor(dict(inputs=native_views(4)))['inputs'])
        total(losses).backward()
        results.append((losses, gradients(model), model.backbone.layer2[0].bn1.num_batches_tracked))
    (plain, plain_gradients, once), (losses, ours, twice) = results
    torch.testing.assert_close(losses, plain, rtol=1e-6, atol=1e-6)
    assert ours.keys() == plain_gradients.keys()
    torch.testing.assert_close(ours, plain_gradients, rtol=1e-3, atol=1e-5)
    assert (once, twice) == (passes, 2 * passes)  # two sides, of four levels each where routed


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_loss_is_one_graph(tiny_config, build, views, joint):
    """torch.compile need not stop anywhere in it. Two levels, for tracing takes 15 s of a CPU core."""
    tiny_config['joint'] = joint
    montage = dict(type='mcl_mm.MontageTransform', ratios=(1, 2), appearances=(1, 1))
    tiny_config['data_preprocessor']['montage'] = montage
    tiny_config['head']['loss_weights'] = (0.5, 0.5)
    model = build(tiny_config).train()
    montages = model.data_preprocessor(dict(inputs=views(4)[:4]), training=True)['inputs']
    torch._dynamo.reset()
    losses = torch.compile(model.loss, backend='eager', fullgraph=True)(montages)
    torch.testing.assert_close(losses, model.loss(montages), rtol=1e-5, atol=1e-6)


class TestRunnerSettings:
    """MMEngine's settings at the level of the Runner, as a user writes them."""

    @staticmethod
    def train(folder, **settings):
        """Three steps of the fast recipe; its logged losses and final weights."""
        cfg = fast_config()
        cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
        cfg.train_dataloader.dataset.data_root = str(draw_images(folder / 'images', 8))
        cfg.train_dataloader.dataset.pipeline[1].update(side=64, ratios=(1, 2))
        # Two levels, which halves the operators to trace.
        cfg.model.data_preprocessor.montage.update(ratios=(1, 2), appearances=(1, 1))
        cfg.model.head.loss_weights = (0.5, 0.5)
        cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
        cfg.train_cfg = dict(by_epoch=False, max_iters=3)
        cfg.param_scheduler = []
        cfg.default_hooks = dict(
            checkpoint=None,
            logger=dict(type='LoggerHook', interval=3),
            runtime_info=dict(type='LazyRuntimeInfoHook'),
        )
        cfg.log_processor = dict(by_epoch=False)
        cfg.auto_scale_lr = dict(enable=False)
        cfg.work_dir = cfg.experiment_name = str(folder)
        cfg.log_level, cfg.sync_bn = 'ERROR', None
        cfg.env_cfg = dict(cudnn_benchmark=False)
        cfg.update(settings)
        with DefaultScope.overwrite_default_scope('mmengine'):
            runner = Runner.from_cfg(cfg)
            runner.train()
        history = runner.message_hub.get_scalar('train/loss').data[0]
        return history.tolist(), runner.model.state_dict()

    @pytest.fixture(scope='class')
    def plain(self, tmp_path_factory):
        return self.train(tmp_path_factory.mktemp('plain'))

    def test_compile(self, plain, tmp_path):
        """`compile`: the network is one graph, and gives the same losses and weights as without."""
        torch._dynamo.reset()
        counters = torch._dynamo.utils.counters
        counters.clear()
        losses, weights = self.train(tmp_path, compile=dict(backend='eager'))
        assert losses == pytest.approx(plain[0], rel=1e-5)
        for name, value in plain[1].items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
        # All operators of the step, in few graphs that are not traced anew at every step.
        assert counters['stats']['calls_captured'] > 500
        assert counters['stats']['unique_graphs'] < 10

    def test_activation_checkpointing(self, plain, tmp_path):
        losses, _ = self.train(tmp_path, activation_checkpointing=CHECKPOINTED)
        assert losses == pytest.approx(plain[0], rel=1e-5)


def test_batches_of_the_loader_reach_the_loss(image_folder):
    """Loader, collation, augmentation and montage of the fast recipe fit each other."""
    from mcl_mm.registry import DATASETS

    cfg = fast_config()
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.train_dataloader.dataset.pipeline[1].side = 64
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model, _ = build_fast()
    batch = default_collate([dataset[index] for index in range(8)])
    q, k = model.data_preprocessor(batch, training=True)['inputs']
    assert [tuple(sheets.shape) for sheets in q.sheets] == [
        (n, 3, 64, 64)
        for n in (8, 2, 1, 1)  # 8 * 2 / 64 rounds up to one sheet
    ]
    assert all(sheets.dtype == torch.float32 for sheets in (*q.sheets, *k.sheets))
    assert abs(q.sheets[0].mean().item()) < 2  # normalised
    assert total(model.loss((q, k))).isfinite()
