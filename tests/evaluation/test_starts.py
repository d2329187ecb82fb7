"""Files of any origin as starts: what each gives a detector, and which are refused."""

import re

import pytest
import torch
from mmengine.config import Config

from conftest import ROOT
from mcl_mm.evaluation.runs import rehearse, write_config
from mcl_mm.evaluation.starts import Start, named_starts, start_from
from mcl_mm.transfer import fit_to_detector, read_checkpoint
from mcl_mm.transfer.detector.settings import build, scope_of
from tiny_datasets import write_voc

DETECTOR = ROOT / 'configs/quickstart/retinanet_bccd.py'


@pytest.fixture(scope='module')
def detector():
    return Config.fromfile(DETECTOR)


@pytest.fixture(scope='module')
def weights(detector):
    """Of another detector of the same build, under MMDetection's names."""
    torch.manual_seed(3)
    return build(detector.model, scope_of(detector)).state_dict()


def backbone(weights, prefix, **more):
    """As classifiers and other methods save a backbone."""
    inside = {k: v for k, v in weights.items() if k.startswith('backbone.')}
    return {k.replace('backbone.', prefix, 1): v for k, v in inside.items()} | more


def starting_weights(cfg, start):
    """The detector's weights at the first iteration of a run from a start."""
    cfg = start_from(cfg, start)
    model = build(cfg.model, 'mmdet')
    fitted = fit_to_detector(read_checkpoint(cfg.load_from)['state_dict'], model)
    own = model.state_dict()
    fits = {k: v for k, v in fitted.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fits, strict=False)
    return model.state_dict()


@pytest.mark.parametrize(
    ('prefix', 'nested'),
    [
        ('', None),  # torchvision, timm
        ('module.encoder_q.', 'state_dict'),  # MoCo and what follows it
        ('online_encoder.net.', 'model'),
        ('backbone.', 'state_dict'),  # MMPretrain
    ],
)
def test_backbones_of_others_are_taken_from_behind_their_prefix(
    detector, weights, tmp_path, capsys, prefix, nested
):
    classifier = {f'{prefix}fc.weight': torch.zeros(10, 256), f'{prefix}fc.bias': torch.zeros(10)}
    content = backbone(weights, prefix) | classifier
    torch.save({nested: content} if nested else content, tmp_path / 'weights.pth')
    start = named_starts(detector, [f'mine={tmp_path}/weights.pth'], tmp_path / 'out')['mine']
    assert 'mine: 100% of backbone.layer4' in capsys.readouterr().out
    found = starting_weights(detector, start)
    for name, value in weights.items():
        if name.startswith('backbone.'):
            assert torch.equal(found[name], value), name


def test_a_detector_gives_pyramid_and_heads_too_but_for_other_classes(detector, weights, tmp_path):
    classes = {k: v for k, v in weights.items() if 'retina_cls' in k}
    others = {k: torch.cat([v, v]) for k, v in classes.items()}
    torch.save(dict(state_dict=weights | others, meta={}), tmp_path / 'coco.pth')
    start = named_starts(detector, [f'coco={tmp_path}/coco.pth'], tmp_path / 'out')['coco']
    assert start.weights == f'{tmp_path}/coco.pth'
    found = starting_weights(detector, start)
    assert classes
    for name, value in weights.items():
        assert torch.equal(found[name], value) == (name not in classes), name


def test_a_run_from_foreign_weights_gets_to_its_first_iteration(
    detector, weights, tmp_path, bccd_like
):
    """The checks of a run agree with the judge."""
    torch.save(backbone(weights, 'encoder_q.'), tmp_path / 'moco.pth')
    start = named_starts(detector, [f'moco={tmp_path}/moco.pth'], tmp_path / 'out')['moco']
    write_config(start_from(bccd_like, start), tmp_path / 'run/config.py', 0)
    assert start.digest() == Start('moco', f'{tmp_path}/moco.pth').digest()  # wherever out lies
    assert rehearse(tmp_path / 'run/config.py') > 0


@pytest.fixture
def bccd_like(detector, tmp_path):
    """The detector on drawn images."""
    write_voc(tmp_path / 'voc')
    cfg = Config(detector.to_dict())
    for loader, name in ((cfg.train_dataloader, 'trainval'), (cfg.val_dataloader, 'test')):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root=f'{tmp_path}/voc/VOC2007/',
            ann_file=f'ImageSets/Main/{name}.txt',
            metainfo=dict(classes=('aeroplane', 'bicycle', 'bird')),
        )
    return cfg


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda w: {k: v for k, v in w.items() if 'layer4' not in k}, 'the backbones differ'),
        (lambda w: {f'bert.{n}': torch.zeros(3) for n in range(5)}, 'none of these weights fits'),
        (lambda w: w | {'backbone.conv1.weight': torch.zeros(64, 3, 7, 7)}, 'another shape'),
    ],
)
def test_what_does_not_belong_is_refused_by_name(detector, weights, tmp_path, change, message):
    torch.save(change(weights), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=f'--start mine={re.escape(str(tmp_path))}.*{message}'):
        named_starts(detector, [f'mine={tmp_path}/weights.pth'], tmp_path / 'out')


def test_traps_of_a_file_are_told(detector, weights, tmp_path, capsys):
    """The file tells of images in another order of channels than the detector gives."""
    pixels = detector.model.data_preprocessor
    meta = dict(input=dict(channel_order='BGR', mean=list(pixels.mean), std=list(pixels.std)))
    torch.save(dict(state_dict=dict(weights), meta=meta), tmp_path / 'weights.pth')
    named_starts(detector, [f'mine={tmp_path}/weights.pth'], tmp_path / 'out')
    assert 'mine: trap [' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['', '../up', 'a b', '-x'])
def test_names_are_those_of_folders(detector, tmp_path, name):
    with pytest.raises(ValueError, match='--start takes NAME=FILE'):
        named_starts(detector, [f'{name}=weights.pth'], tmp_path / 'out')


def test_a_start_is_known_by_its_content(tmp_path):
    path = tmp_path / 'weights.pth'
    path.write_bytes(b'1')
    first = Start('a', str(path)).digest()
    path.write_bytes(b'22')
    assert Start('a', str(path)).digest() != first
    assert Start().digest() == ''


@pytest.mark.parametrize('name', ['random', 'backbone', '+neck', 'neck', 'box_head'])
def test_a_start_has_no_name_whose_folder_is_another_start_s(detector, tmp_path, name):
    """Runs of the cut +neck lie in neck-0, neck-1, ...; a file of that name would mix with them."""
    with pytest.raises(ValueError, match='is called|NAME=FILE, with a name of letters'):
        named_starts(detector, [f'{name}=weights.pth'], tmp_path)
