"""What makes two runs the same, and what does not."""

import shutil

import pytest
from mmengine.config import Config

from conftest import ROOT, call_tool, draw_images
from mcl_mm.evaluation.identity import config_digest, data_name, describe_data
from tiny_datasets import write_voc

RETINANET = ROOT / 'configs/quickstart/retinanet_bccd.py'
PRETRAIN = ROOT / 'configs/quickstart/pretrain.py'


@pytest.mark.parametrize(
    ('options', 'same'),
    [
        ({'train_dataloader.dataset.data_root': '/elsewhere/'}, True),
        ({'val_dataloader.dataset.ann_file': 'other.txt'}, True),  # its content is the data's
        ({'work_dir': 'other', 'log_level': 'ERROR', 'randomness.seed': 9}, True),
        ({'train_dataloader.num_workers': 0, 'val_dataloader.pin_memory': True}, True),
        ({'train_dataloader.dataset.pipeline.3.cache': 'here'}, True),
        ({'default_hooks.logger.interval': 99}, True),
        ({'optim_wrapper.optimizer.lr': 0.5}, False),
        ({'train_dataloader.batch_size': 3}, False),
        ({'model.backbone.depth': 34}, False),
        ({'train_cfg.max_epochs': 99}, False),
        ({'param_scheduler.1.T_max': 99}, False),
        ({'train_dataloader.dataset.pipeline.3.prob': 0.1}, False),
        ({'train_dataloader.dataset.metainfo.classes': ('a', 'b', 'c')}, False),
        ({'randomness.deterministic': True}, False),
    ],
)
def test_a_config_is_the_same_on_every_machine(options, same):
    cfg, other = Config.fromfile(RETINANET), Config.fromfile(RETINANET)
    other.merge_from_dict(options)
    assert (config_digest(cfg) == config_digest(other)) == same


@pytest.mark.parametrize('key', ['checkpoint', 'checkpoint_path'])
def test_processes_and_weights_count_weights_by_their_content(tmp_path, key):
    cfg = Config.fromfile(RETINANET)
    assert config_digest(cfg, 2) != config_digest(cfg, 1)
    digests = []
    for name, content in (('a', b'1'), ('b', b'1'), ('c', b'2')):
        (tmp_path / name).write_bytes(content)
        cfg.model.backbone.init_cfg = {'type': 'Pretrained', key: str(tmp_path / name)}
        digests.append(config_digest(cfg))
    assert digests[0] == digests[1] != digests[2]


def test_a_dumped_config_has_the_digest_of_its_source(tmp_path):
    """Tuples have become lists there, and dicts of the same keys another order."""
    cfg = Config.fromfile(RETINANET)
    cfg.dump(tmp_path / 'dumped.py')
    assert config_digest(Config.fromfile(tmp_path / 'dumped.py')) == config_digest(cfg)


def images_of(folder):
    cfg = Config.fromfile(PRETRAIN)
    cfg.train_dataloader.dataset.data_root = str(folder)
    return describe_data(cfg, 'train_dataloader')


def test_images_count_by_content_wherever_they_lie(tmp_path):
    draw_images(tmp_path / 'a', 3)
    shutil.copytree(tmp_path / 'a', tmp_path / 'b/a')
    first, moved = images_of(tmp_path / 'a'), images_of(tmp_path / 'b/a')
    assert first == moved
    assert (first['name'], first['images']) == ('a', 3)
    # One byte of one image, at the same size of the file.
    path = tmp_path / 'b/a/0001.jpg'
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert images_of(tmp_path / 'b/a')['digest'] != first['digest']


def test_packing_does_not_change_what_images_are(tmp_path, monkeypatch):
    draw_images(tmp_path / 'loose', 3)
    call_tool(monkeypatch, 'pack', tmp_path / 'loose', tmp_path / 'packed')
    assert images_of(tmp_path / 'packed')['digest'] == images_of(tmp_path / 'loose')['digest']


def test_labels_count(tmp_path):
    write_voc(tmp_path / 'voc')
    root = tmp_path / 'voc/VOC2007'
    cfg = Config.fromfile(RETINANET)
    dataset = cfg.train_dataloader.dataset
    dataset.update(
        data_root=f'{root}/',
        ann_file='ImageSets/Main/trainval.txt',
        metainfo=dict(classes=('aeroplane', 'bicycle', 'bird')),
    )
    first = describe_data(cfg, 'train_dataloader')
    assert first['name'] == 'VOC2007/trainval'
    label = next((root / 'Annotations').glob('*.xml'))
    text = label.read_text()
    assert '<xmin>' in text
    for path in (root / 'Annotations').glob('*.xml'):
        path.write_text(path.read_text().replace('<xmin>1', '<xmin>2', 1))
        path.write_text(path.read_text().replace('</annotation>', ' </annotation>'))
    assert describe_data(cfg, 'train_dataloader')['digest'] != first['digest']


def test_a_wrapped_set_has_the_name_of_what_it_wraps():
    inner = dict(type='CocoDataset', data_root='data/coco/', ann_file='annotations/train.json')
    assert data_name(dict(type='RepeatDataset', times=3, dataset=inner)) == 'coco/train'
