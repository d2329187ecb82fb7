"""One judge for every way in: what would load nothing is refused, with a line that loads it."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.model import PretrainedInit

from conftest import build_detector, tiny_detector
from mcl_mm.cli import main
from mcl_mm.transfer import check_load, check_sources, read_checkpoint, to_mmdet
from mcl_mm.transfer.detector.examine import examine
from mcl_mm.transfer.formats.mmdet import from_mmdet
from tiny_detectors import follow

FASTER_RCNN = 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'


@pytest.fixture
def export(pretrained, tmp_path):
    """A file of weights as the command ``export`` writes it."""
    path = tmp_path / 'export.pth'
    torch.save(dict(state_dict=to_mmdet(pretrained.state_dict())), path)
    return path


def started_from(init_cfg, **backbone):
    """A detector whose backbone starts from a file of its own."""
    cfg = tiny_detector(FASTER_RCNN)
    cfg.model.backbone.update(backbone, init_cfg=init_cfg)
    return cfg


def pretrained_by(path, **more):
    return dict(dict(type='Pretrained', checkpoint=str(path)), **more)


def line_in(error):
    return re.search(r'Fix: (.+)', str(error)).group(1).splitlines()[0]


def test_a_backbone_that_takes_its_part_of_an_export(export):
    ((source, report),) = check_sources(
        build_detector(started_from(pretrained_by(export, prefix='backbone')).model)
    )
    assert source.where == 'backbone'
    assert not report.missing
    assert not report.mismatched


@pytest.mark.parametrize('prefix', [{}, dict(prefix='encoder'), dict(prefix='neck')])
def test_a_wrong_prefix_is_refused_and_the_advice_loads(export, prefix):
    """Without one, with one that no name has, and with one that other names have."""
    cfg = started_from(pretrained_by(export, **prefix))
    with pytest.raises(ValueError, match=r'model\.backbone\.init_cfg would load nothing') as error:
        check_sources(build_detector(cfg.model))
    cured = build_detector(follow(cfg, line_in(error.value)).model)
    cured.init_weights()
    weights = read_checkpoint(export)['state_dict']
    for name, value in cured.backbone.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{name}'])


def test_names_of_data_parallel_and_the_prefix_of_their_files(pretrained, tmp_path):
    """MMEngine reads behind a prefix as the file has it; MoCo's begin with ``module.encoder_q.``."""
    weights = pretrained.backbone.state_dict()
    path = tmp_path / 'moco.pth'
    torch.save(dict(state_dict={f'module.encoder_q.{k}': v for k, v in weights.items()}), path)
    detector = build_detector(started_from(pretrained_by(path, prefix='module.encoder_q.')).model)
    check_sources(detector)
    detector.init_weights()
    assert torch.equal(detector.backbone.conv1.weight, weights['conv1.weight'])
    for cfg in (
        started_from(pretrained_by(path, prefix='encoder_q')),
        started_from(pretrained_by(path)),
    ):
        with pytest.raises(ValueError, match=r"Fix: .*prefix='module\.encoder_q'") as error:
            check_sources(build_detector(cfg.model))
        cured = build_detector(follow(cfg, line_in(error.value)).model)
        cured.init_weights()
        assert torch.equal(cured.backbone.conv1.weight, weights['conv1.weight'])
    with pytest.raises(ValueError, match=r"prefix='module\.encoder_q'"):
        check_load(detector, read_checkpoint(path)['state_dict'], str(path))


def test_another_depth_is_refused(export):
    cfg = started_from(pretrained_by(export, prefix='backbone'), depth=34)
    with pytest.raises(ValueError, match=r'model\.backbone\.init_cfg, .*the backbones differ'):
        check_sources(build_detector(cfg.model))


@pytest.mark.parametrize('kind', [PretrainedInit, 'mmengine.model.PretrainedInit'])
def test_a_source_whose_type_is_a_class(export, kind):
    """As configs of MMEngine's newer style have it, and the texts that they are written out as."""
    with pytest.raises(ValueError, match=r'model\.backbone\.init_cfg would load nothing'):
        check_sources(build_detector(started_from(pretrained_by(export, type=kind)).model))
    cfg = started_from(pretrained_by(export, type=kind, prefix='backbone'))
    ((source, report),) = check_sources(build_detector(cfg.model))
    assert source.path == str(export)
    assert not report.missing


def test_no_fitting_name_at_all(tmp_path):
    torch.save({'fc.weight': torch.ones(2, 2)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r"begin with \['fc'\].*it has \['conv1', 'bn1'"):
        check_sources(build_detector(started_from(pretrained_by(tmp_path / 'other.pth')).model))


def test_a_classifiers_head_is_no_obstacle(pretrained, tmp_path):
    weights = dict(pretrained.backbone.state_dict(), **{'fc.weight': torch.ones(3, 64)})
    torch.save(weights, tmp_path / 'classifier.pth')
    init_cfg = pretrained_by(tmp_path / 'classifier.pth')
    ((_, report),) = check_sources(build_detector(started_from(init_cfg).model))
    assert report.unexpected == ['fc.weight']
    assert not report.missing


def test_names_behind_another_prefix(pretrained, tmp_path):
    """A Lightning checkpoint: the refusal says the prefix, and its lines load backbone and pyramid."""
    weights = {f'model.{k}': v for k, v in to_mmdet(pretrained.state_dict()).items()}
    path = str(tmp_path / 'lightning.ckpt')
    torch.save(dict(state_dict=weights, epoch=3, hyper_parameters=dict(lr=0.1)), path)
    cfg = tiny_detector(FASTER_RCNN)
    model = build_detector(cfg.model)
    with pytest.raises(ValueError, match=r"behind 'model\.backbone\.'") as error:
        check_load(model, read_checkpoint(path)['state_dict'], path)
    cured = build_detector(follow(cfg, line_in(error.value)).model)
    cured.init_weights()
    for name in ('backbone.layer4.0.conv1.weight', 'neck.fpn_convs.2.conv.weight'):
        assert torch.equal(cured.state_dict()[name], weights[f'model.{name}'])


def test_single_entries_that_are_no_tensors_are_passed_over(pretrained, tmp_path):
    weights = to_mmdet(pretrained.state_dict())
    torch.save(dict(state_dict=dict(weights, steps=7, name='run')), tmp_path / 'stray.pth')
    assert read_checkpoint(tmp_path / 'stray.pth')['state_dict'].keys() == weights.keys()


def test_another_architecture_is_said_so(pretrained):
    """A ResNet's weights for RTMDet: both have a backbone, of other layers."""
    rtmdet = build_detector(Config(dict(model=rtmdet_model())).model)
    with pytest.raises(ValueError, match=r'backbone is another architecture: .*conv1.*stem'):
        check_load(rtmdet, to_mmdet(pretrained.state_dict()))


def rtmdet_model():
    from mmengine.hub import get_config

    model = get_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py').model
    model.backbone.init_cfg = None
    return model


def test_the_way_back_of_an_export(pretrained):
    """An export continues pre-training as what it is: backbone, pyramid and projector's convs."""
    weights = pretrained.state_dict()
    back = from_mmdet(to_mmdet(weights))
    assert {name.split('.')[0] for name in back} == {'backbone', 'neck'}
    assert all(torch.equal(value, weights[name]) for name, value in back.items())
    report = check_load(pretrained, back)
    assert not report.unexpected


def test_the_doctor_follows_init_cfg(export, tmp_path):
    cfg = started_from(pretrained_by(export, prefix='backbone'))
    cfg.dump(tmp_path / 'detector.py')
    examined = examine(str(tmp_path / 'detector.py'))
    assert examined.weights == str(export)
    assert not examined.diagnosis.errors
    assert 'second-source' not in [trap.id for trap in examined.diagnosis.traps]
    loaded = examined.diagnosis.report.loaded
    assert {name.split('.')[0] for name in loaded} == {'backbone'}
    started_from(pretrained_by(export)).dump(tmp_path / 'wrong.py')
    with pytest.raises(ValueError, match=r"Fix: model = dict\(backbone=.*prefix='backbone'"):
        examine(str(tmp_path / 'wrong.py'))


def test_what_one_gpu_would_add_is_said(export, tmp_path):
    """The number of processes is guessed from the config; a user of one GPU is told what differs."""
    tiny_detector(FASTER_RCNN).dump(tmp_path / 'detector.py')
    examined = examine(str(tmp_path / 'detector.py'), str(export))
    assert examined.processes == 8
    assert [trap.id for trap in examined.on_one] == ['bn-small-batch', 'lr-not-scaled']
    assert 'on one GPU also: trap [bn-small-batch]' in examined.text()
    assert examine(str(tmp_path / 'detector.py'), str(export), processes=1).on_one == []


@pytest.mark.parametrize('own', [None, 'old', 'prefix'])
def test_the_advice_suits_what_the_config_has(export, tmp_path, own):
    """No start at all, another file, and one with a prefix: the line of the refusal loads in each case."""
    weights = {f'net.{k}': v for k, v in read_checkpoint(export)['state_dict'].items()}
    torch.save(dict(state_dict=weights), tmp_path / 'net.pth')
    cfg = tiny_detector(FASTER_RCNN)
    cfg.model.backbone.init_cfg = {
        None: None,
        'old': pretrained_by('torchvision://resnet18'),
        'prefix': pretrained_by('old.pth', prefix='encoder', map_location='cpu'),
    }[own]
    cfg.load_from = str(tmp_path / 'net.pth')
    model = build_detector(cfg.model)
    with pytest.raises(ValueError, match="behind 'net") as error:
        check_load(model, weights, cfg.load_from, cfg)
    cured = follow(cfg, line_in(error.value))
    assert cured.load_from is None
    detector = build_detector(cured.model)
    detector.init_weights()
    assert torch.equal(detector.backbone.conv1.weight, weights['net.backbone.conv1.weight'])


def test_the_command_for_a_whole_checkpoint_makes_a_file_that_loads(pretrained, tmp_path):
    path = str(tmp_path / 'whole.pth')
    torch.save(dict(state_dict=pretrained.state_dict()), path)
    model = build_detector(tiny_detector(FASTER_RCNN).model)
    with pytest.raises(ValueError, match='whole pre-training checkpoint') as error:
        check_load(model, pretrained.state_dict(), path)
    program, *words = line_in(error.value).split('first: ')[1].split()
    words[-1] = str(tmp_path / words[-1])
    assert program == 'mcl-mm'
    with pytest.raises(SystemExit) as end:
        main(None, words)
    assert not end.value.code
    report = check_load(model, read_checkpoint(words[-1])['state_dict'])
    assert not report.unexpected
    assert not report.mismatched
