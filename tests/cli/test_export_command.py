"""tools/export.py: what its files hold, and that the other libraries load them."""

import json
import pickle
import re
import sys

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from safetensors import safe_open
from safetensors.torch import save_file

from command_line import FINETUNE, PRETRAIN, call, run, succeed
from conftest import ROOT
from mcl_mm.registry import MODELS
from mcl_mm.transfer import check_load, read_checkpoint
from mcl_mm.transfer.detector.settings import build
from mcl_mm.transfer.export import FORMATS

META = {
    'source': 'iter_7.pth',
    'epoch': 2,
    'iteration': 7,
    'input': dict(channel_order='RGB', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
}


@pytest.fixture(scope='module')
def model():
    """The network of the quickstart."""
    cfg = Config.fromfile(PRETRAIN)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(cfg.model)
    for name, buffer in model.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return model.eval()


@pytest.fixture(scope='module')
def folder(tmp_path_factory, model):
    """A checkpoint as a Runner writes it, without its optimiser, and an export of each format."""
    folder = tmp_path_factory.mktemp('export')
    meta = dict(cfg=Config.fromfile(PRETRAIN).pretty_text, epoch=2, iter=7)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'iter_7.pth')
    for name, kind in FORMATS.items():
        succeed('export', folder / 'iter_7.pth', folder / f'{name}{kind.suffix}', '--to', name)
    return folder


def test_every_file_says_what_its_weights_are(folder):
    metas = [read_checkpoint(folder / f'{name}.pth')['meta'] for name in ('mmdet', 'timm')]
    metas.append(read_checkpoint(folder / 'safetensors.safetensors')['meta'])
    metas.append(pickle.loads((folder / 'detectron2.pkl').read_bytes())['meta'])
    for meta in metas:
        assert {key: meta[key] for key in META} == META
        assert meta['backbone']['type'] == 'mmpretrain.ResNet'
        assert meta['backbone']['depth'] == 18
        assert 'MCLNeck' in meta['config']


def test_the_default_is_mmdet(folder, tmp_path):
    succeed('export', folder / 'iter_7.pth', tmp_path / 'a.pth')
    ours, theirs = (read_checkpoint(path) for path in (tmp_path / 'a.pth', folder / 'mmdet.pth'))
    assert ours['meta'] == theirs['meta']
    torch.testing.assert_close(ours['state_dict'], theirs['state_dict'], rtol=0, atol=0)


@pytest.mark.parametrize('name', ['mmdet.pth', 'safetensors.safetensors'])
@torch.no_grad()
def test_detector_loads_it_and_computes_the_same_features(folder, model, name):
    cfg = Config.fromfile(FINETUNE)
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MMDET_MODELS.build(cfg.model).eval()
    load_checkpoint(detector, str(folder / name), map_location='cpu')
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(model.extract_feat(image), detector.extract_feat(image)[:4])
    for conv, ours in zip(detector.roi_head.bbox_head.shared_convs, model.neck.projector.convs):
        torch.testing.assert_close(conv.state_dict(), ours.state_dict())


@pytest.mark.parametrize(('name', 'file'), [('mmdet', 'a.pth'), ('safetensors', 'a.safetensors')])
def test_both_printed_ways_into_a_detector_are_right(
    folder, tmp_path, monkeypatch, capsys, name, file
):
    """RetinaNet's pyramid begins at P3: by the names alone our P2 would land there."""
    monkeypatch.chdir(tmp_path)
    succeed('export', folder / 'iter_7.pth', file, '--to', name)
    command, line = capsys.readouterr().out.splitlines()[-2:]
    (tmp_path / 'YOUR_DETECTOR.py').write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n"
        'model = dict(backbone=dict(depth=18, stem_channels=32, base_channels=32), '
        'neck=dict(in_channels=[32, 64, 128, 256], out_channels=64), '
        'bbox_head=dict(in_channels=64, feat_channels=8))\n'
    )
    tool, *arguments = command.removeprefix("the detector's config: mcl-mm ").split()
    succeed(tool, *arguments)
    assert call('doctor', 'YOUR_DETECTOR_finetune.py') == 0
    lines = line.removeprefix('or by hand: ').replace('; ', '\n')
    (tmp_path / 'by_hand.py').write_text(f"_base_ = 'YOUR_DETECTOR.py'\n{lines}\n")
    assert call('doctor', 'by_hand.py') == 0
    assert call('doctor', 'YOUR_DETECTOR.py', file) == 3  # load_from alone


@torch.no_grad()
def test_mmpretrain_backbone_starts_from_it(folder, model):
    """By init_cfg, as its configs do."""
    pretrained = dict(
        type='Pretrained', checkpoint=str(folder / 'mmpretrain.pth'), prefix='backbone'
    )
    backbone = MODELS.build(
        dict(
            type='mmpretrain.ResNet',
            depth=18,
            stem_channels=32,
            base_channels=32,
            out_indices=(0, 1, 2, 3),
            init_cfg=pretrained,
        )
    )
    backbone.init_weights()
    torch.testing.assert_close(backbone.state_dict(), model.backbone.state_dict())


def test_safetensors_are_for_any_reader(folder, model):
    with safe_open(folder / 'safetensors.safetensors', framework='np') as file:
        metadata = file.metadata()
        weight = file.get_tensor('neck.fpn_convs.2.conv.weight')
    assert all(isinstance(value, str) for value in metadata.values())
    assert json.loads(metadata['meta'])['iteration'] == 7
    assert (weight == model.neck.fpn.fpn_convs[2].conv.weight.detach().numpy()).all()


def test_detectron2_file(folder, model):
    content = pickle.loads((folder / 'detectron2.pkl').read_bytes(), encoding='latin1')
    assert {'model', '__author__', 'matching_heuristics'} <= set(content)
    assert all(type(value) is np.ndarray for value in content['model'].values())
    weight = content['model']['backbone.fpn_output4.weight']
    assert (weight == model.neck.fpn.fpn_convs[2].conv.weight.detach().numpy()).all()


@pytest.mark.parametrize(
    ('name', 'file'),
    [('torchvision', 'a.pth'), ('timm', 'a.pth'), ('safetensors', 'a.safetensors')],
)
def test_an_export_is_exported_again(folder, tmp_path, name, file):
    """The small file is enough: nobody has to keep the checkpoint for another format."""
    succeed('export', folder / 'safetensors.safetensors', tmp_path / file, '--to', name)
    ours = read_checkpoint(tmp_path / file)
    theirs = read_checkpoint(folder / f'{name}{(tmp_path / file).suffix}')
    torch.testing.assert_close(ours['state_dict'], theirs['state_dict'], rtol=0, atol=0)
    assert {key: ours['meta'][key] for key in META} == META


@pytest.mark.parametrize('name', ['mmdet', 'timm', 'detectron2'])
def test_every_tensor_is_accounted_for(folder, model, capsys, tmp_path, name):
    out = tmp_path / ('a.pkl' if name == 'detectron2' else 'a.pth')
    succeed('export', folder / 'iter_7.pth', out, '--to', name)
    printed = capsys.readouterr().out
    rows = re.findall(r'^(\S+) +(\d+) +(\d+)$', printed, re.MULTILINE)
    written, left = (sum(int(row[column]) for row in rows) for column in (1, 2))
    assert written + left == len(model.state_dict())
    reasons = re.findall(r'^left behind, (.+): (\d+) tensors of (.+)$', printed, re.MULTILINE)
    assert sum(int(count) for _, count, _ in reasons) == left
    assert reasons[0][0] == 'only pre-training uses it'
    assert 'neck.projector' in reasons[0][2]
    expected = dict(
        mmdet=[], timm=['timm has backbones only'], detectron2=["Detectron2's frozen BN"]
    )
    assert len(reasons) == 1 + len(expected[name])
    for reason, start in zip(reasons[1:], expected[name]):
        assert reason[0].startswith(start)
    assert 'input: RGB, mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375]' in printed


@pytest.mark.parametrize(
    ('ranges', 'says'), [([[0.0, 4095.0]], ', values of more than 8 bits from 0 to 4095'), ([], '')]
)
def test_the_value_range_of_a_run_comes_along(folder, capsys, tmp_path, ranges, says):
    checkpoint = torch.load(folder / 'iter_7.pth')
    checkpoint['meta']['value_ranges'] = ranges
    torch.save(checkpoint, tmp_path / 'iter_7.pth')
    succeed('export', tmp_path / 'iter_7.pth', tmp_path / 'a.pth')
    assert f'std [58.395, 57.12, 57.375]{says}\n' in capsys.readouterr().out
    succeed('export', tmp_path / 'a.pth', tmp_path / 'a.safetensors', '--to', 'safetensors')
    for name in ('a.pth', 'a.safetensors'):
        meta = read_checkpoint(tmp_path / name)['meta']
        assert meta['input'] == dict(META['input'], value_ranges=ranges)


def test_checkpoint_without_a_config(folder, model, capsys, tmp_path):
    torch.save(model.state_dict(), tmp_path / 'bare.pth')
    succeed('export', tmp_path / 'bare.pth', tmp_path / 'a.pth')
    assert 'input: unknown, the checkpoint does not say' in capsys.readouterr().out
    meta = read_checkpoint(tmp_path / 'a.pth')['meta']
    assert meta['input'] is None
    assert meta['backbone'] is None


@pytest.mark.parametrize(
    ('out', 'name', 'message'),
    [
        ('a.pkl', 'mmdet', r'ValueError: the name of a file for mmdet must end in \.pth'),
        ('a.pth', 'detectron2', r'ValueError: the name .* must end in \.pkl'),
        ('a.pth', 'safetensors', r'ValueError: the name .* must end in \.safetensors'),
        ('iter_7.pth/a.pth', 'mmdet', '(NotADirectory|FileExists)Error'),
    ],
)
def test_bad_output(folder, out, name, message):
    before = set(folder.rglob('*'))
    error = call('export', folder / 'iter_7.pth', folder / out, '--to', name)
    assert re.match(message, str(error))
    assert set(folder.rglob('*')) == before


def test_the_checkpoint_is_not_overwritten(folder):
    before = (folder / 'iter_7.pth').read_bytes()
    other_name = folder / '..' / folder.name / 'iter_7.pth'
    error = call('export', folder / 'iter_7.pth', other_name)
    assert re.match('ValueError: .* is the checkpoint itself', str(error))
    assert (folder / 'iter_7.pth').read_bytes() == before


def test_bfloat16_for_detectron2(folder, tmp_path):
    export = torch.load(folder / 'mmdet.pth', weights_only=False)
    weights = {
        k: v.bfloat16() if v.is_floating_point() else v for k, v in export['state_dict'].items()
    }
    torch.save(dict(export, state_dict=weights), tmp_path / 'in.pth')
    succeed('export', tmp_path / 'in.pth', tmp_path / 'out.pkl', '--to', 'detectron2')
    written = pickle.loads((tmp_path / 'out.pkl').read_bytes())['model'][
        'backbone.fpn_output4.weight'
    ]
    assert written.dtype == np.float32
    assert (written == weights['neck.fpn_convs.2.conv.weight'].float().numpy()).all()


def test_full_disk_leaves_the_old_file_and_nothing_else(folder, tmp_path):
    (tmp_path / 'a.pth').write_text('old')
    command = f'ulimit -f 100; {sys.executable} tools/export.py {folder}/mmdet.pth {tmp_path}/a.pth'
    process = run('bash', '-c', command, CUDA_VISIBLE_DEVICES='')
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith('OSError: ')
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']
    assert (tmp_path / 'a.pth').read_text() == 'old'


@pytest.mark.parametrize(
    ('out', 'message'),
    [
        ('ours.safetensors', r'let its name end in \.pth'),
        ('official.safetensors', r'let its name end in \.pth'),
        ('official.pth', 'is the checkpoint itself'),
    ],
)
def test_convert_refuses_names_that_would_do_harm(tmp_path, out, message):
    weights = {'backbone.conv1.weight': torch.ones(1)}
    torch.save(weights, tmp_path / 'official.pth')
    before = (tmp_path / 'official.pth').read_bytes()
    error = call('convert_official', tmp_path / 'official.pth', tmp_path / out)
    assert re.match(f'ValueError: .*{message}', str(error)), error
    assert [path.name for path in tmp_path.iterdir()] == ['official.pth']
    assert (tmp_path / 'official.pth').read_bytes() == before


def test_official_weights_from_safetensors(tmp_path):
    """The authors' names in, an export with their input statistics out."""
    names = json.loads((ROOT / 'tests/data/reference.json').read_text())['state_dict_keys']
    weights = {name: torch.rand(shape) for name, shape in names}
    for name in [name for name in weights if name.startswith('backbone.')]:
        weights[name] = weights[f'encoder_q.0.{name.removeprefix("backbone.")}'].clone()
    save_file(weights, tmp_path / 'official.safetensors')
    succeed('convert_official', tmp_path / 'official.safetensors', tmp_path / 'ours.pth')
    succeed('export', tmp_path / 'ours.pth', tmp_path / 'export.pth')
    export = read_checkpoint(tmp_path / 'export.pth')
    assert export['meta']['input'] == META['input']
    ours, theirs = 'neck.fpn_convs.1.conv.weight', 'encoder_q.1.fpn_convs.1.conv.weight'
    assert torch.equal(export['state_dict'][ours], weights[theirs])


@pytest.fixture(scope='module')
def full_width(tmp_path_factory):
    """Exports of a ResNet-18 of the usual widths under the names that docs/formats.md uses."""
    folder = tmp_path_factory.mktemp('full_width')
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    cfg.backbone.depth = 18
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(cfg)
    torch.save(model.state_dict(), folder / 'checkpoint.pth')
    for out, name in (
        ('mcl.pth', 'mmdet'),
        ('mcl_torchvision.pth', 'torchvision'),
        ('mcl_timm.pth', 'timm'),
    ):
        succeed('export', folder / 'checkpoint.pth', folder / out, '--to', name)
    return folder


def documented(start):
    """Python blocks of docs/formats.md below a heading, for 18 layers instead of 50."""
    text = (ROOT / 'docs/formats.md').read_text()
    section = text[text.index(f'## {start}') :].split('\n## ')[0]
    blocks = re.findall(r'```python\n(.+?)```', section, re.DOTALL)
    assert blocks
    assert all('depth = 50' in block for block in blocks)
    return [block.replace('depth = 50', 'depth = 18') for block in blocks]


@pytest.mark.parametrize('library', ['torchvision', 'timm'])
def test_documented_lines_run(full_width, monkeypatch, library):
    """They assert themselves that nothing of the file is left over."""
    monkeypatch.chdir(full_width)
    for block in documented(library):
        exec(block, {})


@pytest.mark.parametrize('library', ['MMDetection', 'MMPretrain'])
def test_documented_configs_take_all_they_promise(full_width, monkeypatch, library):
    monkeypatch.chdir(full_width)
    (block,) = documented(library)
    weights = read_checkpoint('mcl.pth')['state_dict']
    if library == 'MMDetection':
        cfg = Config.fromstring(block, '.py')
        model = build(cfg.model, 'mmdet')
        assert set(check_load(model, weights).loaded) == set(weights)
    else:
        backbone = dict(Config.fromstring(block, '.py').model.backbone, type='mmpretrain.ResNet')
        model = MODELS.build(dict(backbone, out_indices=(0, 1, 2, 3)))
        model.init_weights()
        for name, value in model.state_dict().items():
            assert torch.equal(value, weights[f'backbone.{name}'])


def test_docs_name_every_format():
    text = (ROOT / 'docs/formats.md').read_text()
    for name, kind in FORMATS.items():
        assert f'`{name}`' in text
        assert kind.suffix in text
