"""The doctor: what loads, each trap alone in an otherwise clean config, and the command."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from command_line import call
from conftest import ROOT, build_detector, tiny_detector
from mcl_mm.transfer import diagnose, to_mmdet
from mcl_mm.transfer.detector.adapt import finetune_changes
from mcl_mm.transfer.detector.fit import PARTS
from mcl_mm.transfer.detector.settings import carried_parts
from tiny_detectors import FASTER_RCNN, deeper, examine, follow, ids

CASCADE_RCNN = 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'
ATSS = 'atss/atss_r50_fpn_1x_coco.py'


def test_a_clean_config_has_no_trap_and_uses_everything(export):
    diagnosis = examine(deeper(tiny_detector(FASTER_RCNN)), export)
    assert diagnosis.errors == diagnosis.traps == diagnosis.notes == diagnosis.left_out == []
    assert sorted(diagnosis.report.loaded) == sorted(export['state_dict'])
    parts = diagnosis.report.parts()
    # Conv weight, then weight, bias, mean, variance and counter of the batch norm; four levels.
    assert parts['neck.lateral_convs'][:4] == parts['neck.fpn_convs'][:4] == (24, 0, 0, 0)
    assert parts['backbone.stem'].parameters == parts['backbone.stem'].pretrained == 8 * 3 * 49 + 16
    assert parts['roi_head.bbox_head.shared_convs'].pretrained == 4 * (8 * 8 * 9 + 16)
    assert parts['rpn_head.rpn_cls'][:4] == (0, 2, 0, 0)
    assert parts['rpn_head.rpn_cls'].parameters == 3 * (32 + 1)
    assert parts['rpn_head.rpn_cls'].pretrained == 0
    # In all: what the file has, without statistics and counters.
    weights = [v for k, v in export['state_dict'].items() if k.endswith(('weight', 'bias'))]
    total = diagnosis.report.total()
    assert total.pretrained == sum(weight.numel() for weight in weights)
    detector = build_detector(deeper(tiny_detector(FASTER_RCNN)).model)
    assert total.parameters == sum(parameter.numel() for parameter in detector.parameters())
    assert f'{total.pretrained / total.parameters:.1%}' in diagnosis.text().splitlines()[-1]
    assert list(parts)[:3] == ['backbone.stem', 'backbone.layer1', 'backbone.layer2']


@pytest.mark.parametrize(
    ('settings', 'says'),
    [(dict(deep_stem=True), 'deep_stem True'), (dict(avg_down=True), 'avg_down True')],
)
def test_variants_of_other_names_are_errors_and_told(export, settings, says):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.update(settings)
    diagnosis = examine(cfg, export)
    assert ids(diagnosis.errors)[0] == 'other-backbone'
    assert ids(diagnosis.traps) == ['resnet-variant']
    assert says in diagnosis.traps[0].text


@pytest.mark.parametrize(
    ('name', 'error'), [(ATSS, 'level-shift'), (CASCADE_RCNN, 'box-head-stages')]
)
def test_weights_that_plain_names_misplace_need_the_hook(export, name, error):
    cfg = deeper(tiny_detector(name))
    cfg.custom_imports = dict(imports='json')
    cfg.custom_hooks = [dict(type='EMAHook')]
    plain = examine(cfg, export)
    assert ids(plain.errors) == [error]
    cured = follow(cfg, plain.errors[0].fix)
    assert cured.custom_imports.imports == ['json', 'mcl_mm']
    assert cured.custom_hooks == [dict(type='EMAHook'), dict(type='mcl_mm.TransferHook')]
    assert examine(cured, export, carried_parts(cured)).errors == []
    with pytest.raises(ValueError, match='TransferHook'):
        plain.check()
    hooked = examine(deeper(tiny_detector(name)), export, PARTS)
    assert hooked.errors == []
    hooked.check()
    assert hooked.report.total().pretrained > plain.report.total().pretrained


def test_a_detector_that_returns_nothing_from_train(export):
    """As those of MMDetection that learn from a teacher."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    model = build_detector(cfg.model)
    kind = type(model)
    model.__class__ = type(
        'Student', (kind,), dict(train=lambda self, mode=True: kind.train(self, mode) and None)
    )
    assert model.train() is None
    assert diagnose(model, export, cfg, processes=8).traps == []
    assert 'load_from' in [c.path for c in finetune_changes(cfg, 'weights.pth', model=model)]


def test_levels_of_one_width_shift_without_a_sign_in_the_shapes(export):
    """A backbone whose stages are all of one width: only the start level tells."""
    cfg = deeper(tiny_detector(ATSS))
    shapes = {}
    for name, value in export['state_dict'].items():
        lateral = re.match(r'neck\.lateral_convs\.\d\.conv\.weight', name)
        shapes[name] = torch.zeros(8, 32, 1, 1) if lateral else value
    cfg.model.neck.in_channels = [32] * 4
    assert ids(examine(cfg, dict(state_dict=shapes, meta={})).errors) == ['level-shift']
    assert examine(cfg, dict(state_dict=shapes, meta={}), PARTS).errors == []


def test_one_stage_detectors_are_told_what_stays_unused(export):
    diagnosis = examine(deeper(tiny_detector(ATSS)), export, PARTS)
    assert diagnosis.traps == []
    notes = '\n'.join(diagnosis.notes)
    assert re.search(r'^6 tensors of neck\.lateral_convs in the file stay unused', notes, re.M)
    assert 'this detector has no such level' in notes
    assert '24 tensors of roi_head.bbox_head.shared_convs in the file stay unused' in notes
    assert 'start at random' in notes
    assert len(diagnosis.left_out) == 12


def test_another_neck_is_named(export):
    cfg = deeper(tiny_detector(ATSS))
    widths = cfg.model.neck.in_channels
    cfg.model.neck = dict(type='ChannelMapper', in_channels=widths, out_channels=8, num_outs=5)
    diagnosis = examine(cfg, export)
    assert diagnosis.errors == []
    assert 'the neck of this detector is ChannelMapper' in '\n'.join(diagnosis.notes)


@pytest.mark.parametrize('parts', [('backbone',), ('backbone', 'neck')])
def test_parts_that_are_not_carried_are_no_trap(export, parts):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.roi_head.bbox_head.type = 'Shared2FCBBoxHead'
    if 'neck' not in parts:
        del cfg.model.neck.norm_cfg
    diagnosis = examine(cfg, export, parts)
    assert diagnosis.errors == diagnosis.traps == []
    carried = {name.split('.')[0] for name in diagnosis.report.loaded}
    assert carried == set(parts)
    assert 'told not to carry them' in diagnosis.notes[-1]


def test_deformable_convs_may_be_added_but_not_another_depth(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.plugins = [
        dict(
            cfg=dict(type='ContextBlock', ratio=1 / 4),
            stages=(False, True, True, False),
            position='after_conv3',
        )
    ]
    diagnosis = examine(cfg, export)
    assert diagnosis.errors == []
    assert 'start at random' in diagnosis.notes[0]
    assert ids(examine(deeper(tiny_detector(FASTER_RCNN), 101), export).errors) == [
        'other-backbone'
    ]


def test_weights_that_do_not_belong_here(export, tiny_config, build):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    foreign = dict(state_dict={'fc.weight': torch.ones(2, 2)})
    assert ids(examine(cfg, foreign).errors) == ['nothing-loads']
    bare = {k.removeprefix('backbone.'): v for k, v in export['state_dict'].items()}
    (error,) = examine(cfg, dict(state_dict=bare), PARTS).errors
    assert "type='Pretrained'" in error.fix or error.id == 'no-backbone'
    checkpoint = dict(state_dict=build(tiny_config).state_dict())
    for parts in (None, PARTS):
        assert ids(examine(tiny_detector(FASTER_RCNN), checkpoint, parts).errors) == [
            'not-exported'
        ]
    head = {k: v for k, v in export['state_dict'].items() if not k.startswith('backbone.')}
    assert ids(examine(cfg, dict(state_dict=head)).errors) == ['no-backbone']
    assert examine(cfg, dict(state_dict=head), ('neck', 'box_head')).errors == []


def test_other_width_of_the_pyramid(export):
    cfg = deeper(tiny_detector(ATSS))
    cfg.model.neck.out_channels = 16
    cfg.model.bbox_head.in_channels = 16
    diagnosis = examine(cfg, export, PARTS)
    assert ids(diagnosis.errors) == ['other-shape']
    assert re.search(r'neck\.\S+: \(8\S+ .*in the file, \(16', diagnosis.errors[0].text)
    assert examine(cfg, export, ('backbone',)).errors == []


@pytest.fixture
def files(tmp_path, export):
    """Weights, and the configs of two detectors."""
    torch.save(export, tmp_path / 'export.pth')
    for name, model in (('faster', FASTER_RCNN), ('atss', ATSS)):
        deeper(tiny_detector(model)).dump(tmp_path / f'{name}.py')
    return tmp_path


def test_command_prints_a_table(files, capsys):
    assert call('doctor', files / 'faster.py', files / 'export.pth') == 0
    output = capsys.readouterr().out
    assert output.startswith(f'{files}/export.pth in {files}/faster.py, 8 process(es)')
    assert re.search(r'neck.fpn_convs +24 +0 +0 +0 +2,368 +100.0%', output)


def test_command_prints_json_and_nothing_else(files, capsys):
    options = ['--cfg-options', 'model.backbone.norm_eval=True', f'load_from={files}/export.pth']
    assert call('doctor', files / 'faster.py', '--json', *options) == 0
    result = json.loads(capsys.readouterr().out)
    assert result['schema'] == 1
    assert result['ok'] is True
    assert result['processes'] == 8
    assert [trap['id'] for trap in result['traps']] == ['norm-eval']
    assert result['traps'][0]['fix'] == 'model = dict(backbone=dict(norm_eval=False))'
    parts = {part['part']: part for part in result['parts']}
    assert parts['neck.fpn_convs'] == dict(
        part='neck.fpn_convs', loaded=24, missing=0, unexpected=0, mismatched=0, parameters=2368,
        pretrained=2368,
    )  # fmt: skip
    assert result['total']['loaded'] == sum(part['loaded'] for part in result['parts'])


def test_command_exit_code_tells_that_less_loads(files, capsys):
    assert call('doctor', files / 'atss.py', files / 'export.pth', '--json') == 3
    result = json.loads(capsys.readouterr().out)
    assert result['ok'] is False
    assert [error['id'] for error in result['errors']] == ['level-shift']
    hook = dict(type='mcl_mm.TransferHook', parts=('backbone', 'neck'), priority='HIGH')
    with (files / 'atss.py').open('a') as config:
        config.write(f'\ncustom_hooks = [{hook}]\n')
    assert call('doctor', files / 'atss.py', files / 'export.pth') == 0


def test_the_block_cures_all_traps_at_once(files, capsys):
    """Pasted below each other, single fixes would replace one another: most are a `model = dict(...)`."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.update(norm_eval=True, frozen_stages=1, style='caffe')
    cfg.model.neck.norm_cfg = dict(type='MMSyncBN', requires_grad=False)
    cfg.model.roi_head.bbox_head.type = 'Shared2FCBBoxHead'
    cfg.train_cfg.max_epochs = 9
    cfg.dump(files / 'spoilt.py')
    for processes, first in ((8, []), (1, ['mm-sync-bn'])):
        arguments = (files / 'spoilt.py', files / 'export.pth', '--processes', processes)
        assert call('doctor', *arguments) == 0
        told, block = capsys.readouterr().out.split('\n\n', 1)
        cured = [
            *first,
            'frozen-stages',
            'norm-eval',
            'resnet-variant',
            'missing-norm',
            'no-box-convs',
        ]
        assert 'a later line of one name (model = ...) replaces an earlier one.\n' in told
        assert told.endswith(f'take this block; it cures {", ".join(cured)}:')
        assert call('doctor', *arguments, '--json') == 0
        assert json.loads(capsys.readouterr().out)['block'] == block.rstrip('\n') + '\n'
        child = files / f'child_{processes}.py'
        child.write_text(f"_base_ = 'spoilt.py'\n{block}")
        assert call('doctor', child, *arguments[1:], '--json') == 0
        result = json.loads(capsys.readouterr().out)
        left = [trap['id'] for trap in result['traps']]
        assert left == [*(['bn-small-batch', 'lr-not-scaled'] if first else []), 'few-epochs']
        assert result['block'] == ''


def test_a_config_of_the_newer_style_is_written_out_first(files, monkeypatch, capsys):
    """None can inherit from it; and of the names that MMEngine then writes, it does not find all."""
    monkeypatch.chdir(files)
    Path('lazy.py').write_text(
        'from mmcv.ops import RoIAlign\n'
        'from mmdet.models.losses.smooth_l1_loss import L1Loss\n'
        'from mmengine.config import read_base\n'
        'with read_base():\n    from .faster import *\n'
        'model.backbone.update(norm_eval=True)\n'
        'model.rpn_head.loss_bbox.update(type=L1Loss)\n'
        'model.roi_head.bbox_roi_extractor.roi_layer.update(type=RoIAlign)\n'
    )
    assert call('doctor', 'lazy.py', 'export.pth') == 0
    told, block = capsys.readouterr().out.split('\n\n', 1)
    assert "\nLines of a fix go into a config that begins with _base_ = 'plain.py'" in told
    code, long, short, alone = re.search(
        r"in Python: (.+?)\. For a long name .+? as ('\S+'), write .+?, ('\S+'); .+? alone, ('\w+')",
        told,
    ).groups()
    assert code == "Config.fromfile('lazy.py').dump('plain.py')"
    Config.fromfile('lazy.py').dump('plain.py')
    plain = Path('plain.py').read_text()
    assert long in plain
    Path('plain.py').write_text(plain.replace(long, short).replace("'mmcv.ops.RoIAlign'", alone))
    Path('child.py').write_text(f"_base_ = 'plain.py'\n{block}")
    assert call('doctor', 'child.py', 'export.pth', '--json') == 0
    assert json.loads(capsys.readouterr().out)['traps'] == []


def test_command_takes_the_number_of_processes(files, capsys):
    assert call('doctor', files / 'faster.py', files / 'export.pth', '--processes', 1) == 0
    assert 'trap [bn-small-batch] batch norm sees 2 images' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{files}/faster.py', '/nowhere.pth'], 'FileNotFoundError: no checkpoint at'),
        (['{files}/faster.py'], 'ValueError: which weights'),
        (['/nowhere.py', '{files}/export.pth'], 'FileNotFoundError'),
        ([f'{ROOT}/configs/quickstart/pretrain.py', '{files}/export.pth'],
         'ValueError: .* not the config of a detector'),
        (['{files}/faster.py', '{files}/export.pth', '--cfg-options', 'model.neck.type=Nonsense'],
         'ValueError: no Nonsense is registered: list its module'),
    ],
)  # fmt: skip
def test_command_refuses_bad_input_in_one_line(files, arguments, message):
    code = call('doctor', *(argument.format(files=files) for argument in arguments))
    assert re.match(message, code, re.DOTALL), code


def test_an_exported_model_of_this_package_is_clean(pretrained):
    cfg = tiny_detector(FASTER_RCNN)
    assert examine(cfg, dict(state_dict=to_mmdet(pretrained.state_dict()))).errors == []


def test_a_config_that_raises_is_one_line(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text('a = 1 / 0')
    reason = 'line 1, cannot be opened as a config: ZeroDivisionError: division by zero'
    assert call('doctor', config, 'weights.pth') == f'ValueError: {config}, {reason}'
