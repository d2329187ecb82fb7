"""The doctor: what loads, each trap alone in an otherwise clean config, and the command."""

import json
import re

import pytest
import torch
from command_line import call
from mmengine.config import Config
from mmengine.hub import get_config

from conftest import ROOT, build_detector, tiny_detector
from mcl_mm.transfer import diagnose, to_mmdet
from mcl_mm.transfer.detector.examine import carried_parts
from mcl_mm.transfer.detector.fit import PARTS

FASTER_RCNN = 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
CASCADE_RCNN = 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'
ATSS = 'atss/atss_r50_fpn_1x_coco.py'
META = dict(
    input=dict(channel_order='RGB', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type='mmpretrain.ResNet', depth=50),
)


@pytest.fixture(scope='module')
def export():
    """An export of the widths of ``tiny_detector``'s, whose ResNet has the blocks of a ResNet-50."""
    return exported(50)


def exported(depth):
    detector = build_detector(deeper(tiny_detector(FASTER_RCNN), depth).model)
    prefixes = ('backbone.', 'neck.', 'roi_head.bbox_head.shared_convs.')
    weights = {k: v for k, v in detector.state_dict().items() if k.startswith(prefixes)}
    return dict(state_dict=weights, meta=META)


def deeper(cfg, depth=50):
    """The same detector with the bottleneck blocks that a ResNet has from 50 layers on."""
    cfg.model.backbone.depth = depth
    cfg.model.neck.in_channels = [32, 64, 128, 256]
    return cfg


def examine(cfg, checkpoint, parts=None, processes=8):
    return diagnose(build_detector(cfg.model), checkpoint, cfg, parts, processes)


def ids(findings):
    return [finding.id for finding in findings]


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


def cure(cfg, fix):
    """Add a line to a config, as a file that inherits from it would."""
    lines = {}
    exec(fix, {}, lines)
    for key, value in lines.items():
        if isinstance(value, list):
            rest = [old for old in cfg[key] if old['type'] != value[value[0] is ...]['type']]
            at = value.index(...)
            cfg[key] = value[:at] + rest + value[at + 1 :]
        else:
            cfg.merge_from_dict({key: value})


def change_neck(cfg):
    del cfg.model.neck.norm_cfg


def change_box_norm(cfg):
    del cfg.model.roi_head.bbox_head.norm_cfg


def change_box_head(cfg):
    cfg.model.roi_head.bbox_head.type = 'Shared2FCBBoxHead'


def change_backbone(**settings):
    return lambda cfg: cfg.model.backbone.update(settings)


def change_input(**settings):
    return lambda cfg: cfg.model.data_preprocessor.update(settings)


def change(path, value):
    return lambda cfg: cfg.merge_from_dict({path: value})


def keep_scheduler(index):
    def keep(cfg):
        cfg.param_scheduler = [cfg.param_scheduler[index]]

    return keep


@pytest.mark.parametrize(
    ('trap', 'spoil', 'says'),
    [
        ('frozen-stages', change_backbone(frozen_stages=1), 'first conv1.weight'),
        ('frozen-norm', change_backbone(norm_cfg=dict(type='BN', requires_grad=False)), 'frozen'),
        ('norm-eval', change_backbone(norm_eval=True), 'statistics of pre-training'),
        ('bn-small-batch', change('sync_bn', None), 'sees 2 images'),
        ('other-input', change_input(bgr_to_rgb=False), 'BGR'),
        ('other-input', change_input(mean=[0.0, 0.0, 0.0]), r'mean \[0.0, 0.0, 0.0\]'),
        ('other-input', change_input(std=[1.0, 1.0, 1.0]), r'std \[1.0, 1.0, 1.0\]'),
        ('other-input', change_input(mean=None, std=None), 'mean None'),
        ('resnet-variant', change_backbone(style='caffe'), "style 'caffe' and not 'pytorch'"),
        ('missing-norm', change_neck, 'follows every conv of the pyramid, and here none'),
        ('missing-norm', change_box_norm, "follows each of the box head's convs"),
        ('no-box-convs', change_box_head, 'no place for the four convs'),
        ('second-source',
         change_backbone(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
         'backbone also starts from torchvision://resnet50'),
        ('lr-not-scaled', change('train_dataloader.batch_size', 8),
         'for 16 images per step and this run has 64: it is 0.25 times'),
        ('lr-far', change('optim_wrapper.optimizer.lr', 0.2), '10 times that of the 1x'),
        ('no-warmup', keep_scheduler(1), 'starts at its full height'),
        ('no-decay', keep_scheduler(0), 'never lowered'),
        ('no-decay', change('param_scheduler.1.milestones', [12, 16]), 'never lowered'),
        ('few-epochs', change('train_cfg.max_epochs', 9), 'takes 9 of the 12 epochs'),
    ],
)  # fmt: skip
def test_each_trap_is_seen_alone(export, trap, spoil, says):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    spoil(cfg)
    diagnosis = examine(cfg, export)
    assert ids(diagnosis.traps) == [trap]
    assert diagnosis.errors == []
    assert re.search(says, diagnosis.traps[0].text)
    assert f'[{trap}]' in diagnosis.text()
    cure(cfg, diagnosis.traps[0].fix)
    assert examine(cfg, export).traps == []


@pytest.mark.parametrize(
    'harmless',
    [
        change('optim_wrapper.optimizer.lr', 0.01),  # as RetinaNet and PASCAL VOC
        change('auto_scale_lr.enable', True),
        change('param_scheduler.1', dict(_delete_=True, type='CosineAnnealingLR', T_max=12)),
        change('param_scheduler.1', dict(_delete_=True, type='LinearLR', begin=6, end_factor=0.1)),
    ],
)
def test_other_good_schedules_are_no_trap(export, harmless):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    harmless(cfg)
    assert examine(cfg, export).traps == []


def test_repeated_data_counts_as_epochs(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_cfg.max_epochs, cfg.param_scheduler[1].milestones = 4, [3]
    assert ids(examine(cfg, export).traps) == ['few-epochs']
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=dataset)
    assert examine(cfg, export).traps == []


def test_the_cure_for_no_decay_is_in_the_units_of_the_run(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=24000)
    cfg.param_scheduler[1] = dict(type='MultiStepLR', by_epoch=False, milestones=[24000])
    (trap,) = examine(cfg, export).traps
    assert 'by_epoch=False, milestones=[16000, 22000], gamma=0.1, end=24000' in trap.fix
    cfg.merge_from_dict({'param_scheduler.1.milestones': [16000, 22000]})
    assert examine(cfg, export).traps == []


def test_a_learning_rate_scaled_by_the_run_is_right_at_any_batch(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_dataloader.batch_size = 64
    assert ids(examine(cfg, export).traps) == ['lr-not-scaled']
    cfg.auto_scale_lr.enable = True
    assert examine(cfg, export).traps == []


def test_accumulated_steps_count_into_the_batch(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_dataloader.batch_size = 8
    cfg.optim_wrapper.accumulative_counts = 2
    assert examine(cfg, export, processes=1).traps == []


def test_one_process_with_two_images(export):
    """Nothing to synchronise: more images are the cure."""
    diagnosis = examine(deeper(tiny_detector(FASTER_RCNN)), export, processes=1)
    assert ids(diagnosis.traps) == ['bn-small-batch', 'lr-not-scaled']
    assert 'batch_size=8' in diagnosis.traps[0].fix


def test_synchronised_layers_see_all_images(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.sync_bn = None
    norm_cfg = dict(type='SyncBN', requires_grad=True)
    cfg.model.backbone.norm_cfg = cfg.model.neck.norm_cfg = norm_cfg
    assert ids(examine(cfg, export).traps) == ['bn-small-batch']  # the box head's are left
    cfg.model.roi_head.bbox_head.norm_cfg = norm_cfg
    assert examine(cfg, export).traps == []


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


def test_a_resnet_v1d_export_wants_a_resnet_v1d(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    meta = dict(META, backbone=dict(type='mmpretrain.ResNetV1d', depth=50))
    (trap,) = examine(cfg, dict(export, meta=meta)).traps
    assert trap.fix == 'model = dict(backbone=dict(deep_stem=True, avg_down=True))'


def test_basic_blocks_know_no_style():
    cfg = deeper(tiny_detector(FASTER_RCNN), 18)
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    cfg.model.backbone.style = 'caffe'
    detector = build_detector(cfg.model)
    meta = dict(META, backbone=dict(type='mmpretrain.ResNet', depth=18))
    checkpoint = dict(state_dict=detector.state_dict(), meta=meta)
    assert diagnose(detector, checkpoint, cfg, processes=8).traps == []


@pytest.mark.parametrize(
    ('optimizer', 'traps'), [('SGD', ['no-warmup', 'no-decay']), ('AdamW', ['no-decay'])]
)
def test_no_schedule_at_all(export, optimizer, traps):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.param_scheduler = None
    cfg.optim_wrapper.optimizer.type = optimizer
    assert ids(examine(cfg, export).traps) == traps


def test_what_the_config_does_not_tell_is_not_judged(export):
    model = build_detector(deeper(tiny_detector(FASTER_RCNN)).model)
    assert diagnose(model, export, Config()).traps == []


def test_what_the_file_does_not_tell_is_not_judged(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.style = 'caffe'
    cfg.model.data_preprocessor.bgr_to_rgb = False
    for meta in ({}, dict(input='RGB, mean [0], std [1]', backbone=None), dict(input=dict())):
        assert examine(cfg, dict(export, meta=meta)).traps == []


@pytest.mark.parametrize(
    ('name', 'error'), [(ATSS, 'level-shift'), (CASCADE_RCNN, 'box-head-stages')]
)
def test_weights_that_plain_names_misplace_need_the_hook(export, name, error):
    plain = examine(deeper(tiny_detector(name)), export)
    assert ids(plain.errors) == [error]
    assert 'mcl_mm.TransferHook' in plain.errors[0].fix
    with pytest.raises(ValueError, match='TransferHook'):
        plain.check()
    hooked = examine(deeper(tiny_detector(name)), export, PARTS)
    assert hooked.errors == []
    hooked.check()
    assert hooked.report.total().pretrained > plain.report.total().pretrained


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


def test_heads_of_another_kind_are_no_trap(export):
    """Sparse R-CNN's heads attend; there is no box head with convs to exchange them for."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    sparse = get_config('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py').model
    sparse.backbone, sparse.neck = cfg.model.backbone, cfg.model.neck
    sparse.neck.out_channels = 8
    cfg.model = sparse
    diagnosis = examine(cfg, export)
    assert diagnosis.errors == diagnosis.traps == []
    assert 'this detector has no such layers' in diagnosis.notes[0]


@pytest.mark.parametrize('parts', [('backbone',), ('backbone', 'neck')])
def test_parts_that_are_not_carried_are_no_trap(export, parts):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    change_box_head(cfg)
    if 'neck' not in parts:
        change_neck(cfg)
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


def test_every_finding_is_documented():
    folder = ROOT / 'mcl_mm/transfer/detector'
    files = [folder / 'judge.py', folder / 'doctor.py', *sorted((folder / 'rules').glob('*.py'))]
    source = ''.join(path.read_text() for path in files)
    documented = re.findall(r'^\| `([a-z-]+)` \|', (ROOT / 'docs/doctor.md').read_text(), re.M)
    found = set(re.findall(r"(?:Finding|curable)\(\s*'([a-z-]+)'", source))
    json_keys = {'schema', 'ok', 'parts', 'total', 'left_out', 'notes'}
    assert found == set(documented) - json_keys


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
         'KeyError: .*Nonsense'),
    ],
)  # fmt: skip
def test_command_refuses_bad_input_in_one_line(files, arguments, message):
    code = call('doctor', *(argument.format(files=files) for argument in arguments))
    assert re.match(message, code, re.DOTALL), code


def test_an_exported_model_of_this_package_is_clean(pretrained):
    cfg = tiny_detector(FASTER_RCNN)
    assert examine(cfg, dict(state_dict=to_mmdet(pretrained.state_dict()))).errors == []


def test_types_that_are_classes(export):
    """As in configs of MMEngine's newer style."""
    from mmengine.optim import LinearLR, MultiStepLR
    from torch.optim import SGD

    from mcl_mm.engine import TransferHook

    cfg = deeper(tiny_detector(FASTER_RCNN))
    classes = dict(LinearLR=LinearLR, MultiStepLR=MultiStepLR)
    for scheduler in cfg.param_scheduler:
        scheduler['type'] = classes[scheduler['type']]
    cfg.optim_wrapper.optimizer['type'] = SGD
    cfg.custom_hooks = [dict(type=TransferHook, parts=('backbone',))]
    assert examine(cfg, export).traps == []
    assert carried_parts(cfg) == ('backbone',)
    cfg.param_scheduler = cfg.param_scheduler[1:]
    cfg.optim_wrapper.optimizer['lr'] *= 100
    assert {'lr-far', 'no-warmup'} <= set(ids(examine(cfg, export).traps))


@pytest.mark.parametrize('own', [None, dict(type='BN')])
def test_group_norm_that_the_detector_has_not(export, own):
    weights = {
        re.sub(r'^(neck\..*)\.bn\.', r'\1.gn.', name): value
        for name, value in export['state_dict'].items()
        if not (name.startswith('neck.') and re.search('running|num_batches', name))
    }
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.neck.norm_cfg = own
    found = [
        f for f in examine(cfg, dict(export, state_dict=weights)).traps if f.id == 'missing-norm'
    ]
    assert found[0].text.startswith('in the weights a norm follows every conv of the pyramid')
    assert "type='GN'" in found[0].fix


def test_norm_eval_without_batch_norm_does_nothing(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.update(norm_eval=True, norm_cfg=dict(type='GN', num_groups=2))
    own = build_detector(cfg.model).state_dict()
    assert 'norm-eval' not in ids(examine(cfg, dict(state_dict=own)).traps)


def test_a_config_that_raises_is_one_line(tmp_path):
    (tmp_path / 'config.py').write_text('a = 1 / 0')
    code = call('doctor', tmp_path / 'config.py', 'weights.pth')
    assert code == 'ZeroDivisionError: division by zero'
