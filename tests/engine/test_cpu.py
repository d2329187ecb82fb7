"""Without a GPU: which precision, that it is used, and what gives way."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope

from conftest import ROOT, build_detector, tiny_detector
from mcl_mm.engine.cpu import (
    CPUAmpOptimWrapper,
    adapt_to_cpu,
    multiplies_bfloat16,
    operators_take_bfloat16,
)
from mcl_mm.engine.run import adapt_to_machine, use_mixed_precision
from tiny_runs import check_same_run, fault, run, write_config

BFLOAT16 = 'optim_wrapper.dtype=bfloat16'


@pytest.fixture
def cpu(monkeypatch):
    """Choose what PyTorch says of the CPU; and let it say it in this PyTorch, whatever its version."""

    def choose(**capabilities):
        monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    choose()
    return choose


def recipe(name, options=None):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    cfg.merge_from_dict(options or {})
    cfg.launcher = 'none'
    adapt_to_machine(cfg, options)
    return cfg.optim_wrapper


@pytest.mark.parametrize(
    ('capabilities', 'fast'),
    [
        (dict(amx_bf16=True, avx512_bf16=True), True),
        (dict(amx_bf16=False, avx512_bf16=True), False),
        (dict(avx512_f=True, amx_int8=True), False),
        ({}, False),
    ],
)
def test_instructions(cpu, capabilities, fast):
    cpu(**capabilities)
    assert multiplies_bfloat16() is fast


def test_instructions_of_an_older_pytorch_are_not_known(monkeypatch):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    assert multiplies_bfloat16() is False


@pytest.mark.parametrize('name', ['mcl_r50_100e', 'mcl_r50_100e_fast'])  # float16, bfloat16
@pytest.mark.parametrize(
    ('capable', 'options', 'dtype'),
    [
        (True, {}, 'bfloat16'),
        (False, {}, 'float32'),
        (False, {'optim_wrapper.dtype': 'bfloat16'}, 'bfloat16'),
        (True, {'optim_wrapper.dtype': 'float32'}, 'float32'),
    ],
)
def test_precision_of_a_recipe(cpu, capsys, name, capable, options, dtype):
    cpu(amx_bf16=capable)
    wrapper = recipe(name, options)
    wanted = dict(bfloat16='mcl_mm.CPUAmpOptimWrapper', float32='OptimWrapper')
    assert wrapper.type == wanted[dtype]
    assert not {'dtype', 'loss_scale'} & wrapper.keys()
    with DefaultScope.overwrite_default_scope('mmdet'):  # as of a detector's run
        built = OPTIM_WRAPPERS.build(
            dict(type=wrapper.type, optimizer=torch.optim.SGD([torch.ones(1)], 0.1))
        )
    assert type(built) is (CPUAmpOptimWrapper if dtype == 'bfloat16' else OptimWrapper)


def test_the_choice_is_said_with_its_reason(cpu, monkeypatch):
    said = []
    monkeypatch.setattr('mcl_mm.engine.cpu.print_log', lambda text, *_: said.append(text))
    cpu(amx_bf16=True)
    recipe('mcl_r50_100e')
    recipe('mcl_r50_100e', {'optim_wrapper.dtype': 'float32'})
    cpu()
    recipe('mcl_r50_100e')
    assert [text.split(',')[0] for text in said] == [
        'No GPU: training in bfloat16',
        'No GPU: training in float32',
        'No GPU: training in float32',
    ]
    for text, reason in zip(said, ('AMX', '--cfg-options', 'no AMX')):
        assert reason in text


def test_a_config_may_want_float32(cpu):
    cpu(amx_bf16=True)
    cfg = Config(dict(launcher='none', optim_wrapper=dict(type='AmpOptimWrapper', dtype='float32')))
    adapt_to_cpu(cfg)
    assert cfg.optim_wrapper == dict(type='OptimWrapper')


def test_float16_needs_a_gpu(cpu):
    with pytest.raises(ValueError, match='float16 needs a GPU: .* bfloat16 or float32'):
        recipe('mcl_r50_100e', {'optim_wrapper.dtype': 'float16'})


def test_a_detector_by_amp(cpu, monkeypatch):
    cpu(amx_bf16=True)
    cfg = tiny_detector('retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg.launcher = 'none'
    with pytest.raises(ValueError, match='add --amp'):
        adapt_to_machine(cfg, {'optim_wrapper.dtype': 'bfloat16'})
    use_mixed_precision(cfg)
    adapt_to_machine(cfg)
    wanted = 'mcl_mm.CPUAmpOptimWrapper' if operators_take_bfloat16() else 'OptimWrapper'
    assert cfg.optim_wrapper.type == wanted
    assert 'loss_scale' not in cfg.optim_wrapper
    for takes, wanted in ((True, 'mcl_mm.CPUAmpOptimWrapper'), (False, 'OptimWrapper')):
        monkeypatch.setattr('mcl_mm.engine.cpu.operators_take_bfloat16', lambda takes=takes: takes)
        use_mixed_precision(cfg)
        adapt_to_machine(cfg)
        assert cfg.optim_wrapper.type == wanted


def test_the_wrapper_computes_in_bfloat16():
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64)
    wrapper = CPUAmpOptimWrapper(torch.optim.SGD(layer.parameters(), 0.1))
    inputs = torch.randn(8, 64)
    with wrapper.optim_context(layer):
        output = layer(inputs)
    assert output.dtype == torch.bfloat16
    reference = layer.weight.bfloat16() @ inputs.bfloat16().T
    torch.testing.assert_close(
        output.T.float(), reference.float() + layer.bias[:, None].bfloat16().float(),
        atol=0.02, rtol=0.02,
    )  # fmt: skip
    loss = output.float().square().mean()
    (gradient,) = torch.autograd.grad(loss, layer.weight, retain_graph=True)
    expected = layer.weight - 0.1 * gradient
    wrapper.update_params(loss)
    assert layer.weight.dtype == torch.float32
    torch.testing.assert_close(layer.weight, expected)


def test_checkpoints_go_between_the_wrappers():
    """A run may go on where the other precision is better; the loss scaler's state is left out."""
    layer = torch.nn.Linear(2, 2)
    wrapper = CPUAmpOptimWrapper(torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9))
    wrapper.update_params(layer(torch.ones(1, 2)).sum())
    state = wrapper.state_dict()
    other = OptimWrapper(torch.optim.SGD(layer.parameters(), 0.3, momentum=0.9))
    other.load_state_dict(state)
    state['loss_scaler'] = dict(scale=65536.0)
    wrapper.load_state_dict(state)
    assert other.param_groups[0]['lr'] == 0.1
    momenta = [w.optimizer.state[layer.weight]['momentum_buffer'] for w in (wrapper, other)]
    assert torch.equal(*momenta)


@pytest.mark.parametrize('by_epoch', [True, False], ids=['by_epoch', 'by_iter'])
def test_a_run_in_bfloat16_resumes_to_the_bit(tmp_path, image_folder, by_epoch):
    for path in sorted(image_folder.iterdir())[9:]:
        path.unlink()
    config = write_config(tmp_path, image_folder, by_epoch)
    options = [BFLOAT16] if by_epoch else ['optim_wrapper.type=AmpOptimWrapper', BFLOAT16]
    whole, parted = tmp_path / 'whole', tmp_path / 'parted'
    run(config, whole, *options)
    run(config, parted, *options, *fault(5, 'SIGTERM'), code=75)
    run(config, parted, *options)
    check_same_run(parted, whole)
    run(config, tmp_path / 'float32')
    lines = [
        json.loads(line)
        for folder in ('whole', 'float32')
        for line in next((tmp_path / folder).glob('*/vis_data/scalars.json'))
        .read_text()
        .splitlines()
        if json.loads(line)['step'] == 1
    ]
    # Batch norm over two images turns rounding into a tenth.
    assert 0 < abs(lines[0]['loss'] - lines[1]['loss']) < 0.2 * lines[1]['loss']


def test_what_is_not_finite_stops_a_run_in_bfloat16(tmp_path, image_folder):
    config = write_config(tmp_path, image_folder, by_epoch=True)
    output = run(config, tmp_path / 'work', BFLOAT16, *fault(2, 'overflow'), code=1)
    assert 'FloatingPointError' in output
    assert (tmp_path / 'work/nonfinite_iter_3/state.pth').exists()


@pytest.mark.parametrize('width', [8, 16])
def test_narrow_networks_are_not_channels_last(width):
    """Some CPUs crash in the backward pass of a narrow shortcut."""
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e_fast.py')
    cfg.launcher = 'none'
    cfg.model.backbone.update(depth=18, stem_channels=width, base_channels=width)
    cfg.model.neck.pop('in_channels', None)
    adapt_to_cpu(cfg)
    assert cfg.model.channels_last == (width == 16)


def test_processes_have_batch_norm_of_their_own(tmp_path):
    """SyncBN refuses to run on the CPU."""
    cfg = tiny_detector('retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg.launcher = 'pytorch'
    cfg.model.backbone.norm_cfg = dict(type='SyncBN', requires_grad=True)
    cfg.model.neck.norm_cfg = dict(type='MMSyncBN', requires_grad=True)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        adapt_to_cpu(cfg)
        detector = build_detector(cfg.model).train()
        maps = detector.extract_feat(torch.rand(2, 3, 64, 64))
    finally:
        torch.distributed.destroy_process_group()
    assert all(m.isfinite().all() for m in maps)
    assert cfg.sync_bn is None
    assert cfg.model.backbone.norm_cfg == dict(type='BN', requires_grad=True)
    assert cfg.model.neck.norm_cfg == dict(type='BN', requires_grad=True)


def test_one_process_needs_no_group_for_synchronised_batch_norm(cpu):
    """MMCV's asks for one when it is built."""
    cfg = tiny_detector('retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg.launcher = 'none'
    cfg.model.backbone.norm_cfg = dict(type='MMSyncBN', requires_grad=True)
    adapt_to_machine(cfg)
    assert build_detector(cfg.model).backbone.bn1.__class__ is torch.nn.BatchNorm2d
