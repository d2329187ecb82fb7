"""Classes of a config and of its annotations are the same."""

import json

import pytest
from mmengine.hub import get_config

from conftest import tiny_detector
from mcl_mm.transfer.detector.rules.data import check_class_numbers, check_classes_known
from mcl_mm.transfer.detector.settings import build
from tiny_detectors import FASTER_RCNN, deeper, examine, follow


def test_boxes_of_classes_that_the_data_set_does_not_know(export, tmp_path):
    """COCO's names are the default; a file of other categories loses every box."""
    categories = [dict(id=i, name=name) for i, name in enumerate(('kangaroo', 'emu'))]
    (tmp_path / 'train.json').write_text(json.dumps(dict(categories=categories)))
    cfg = deeper(tiny_detector(FASTER_RCNN))
    dataset = dict(cfg.train_dataloader.dataset, data_root=str(tmp_path), ann_file='train.json')
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=1, dataset=dataset)
    (trap,) = examine(cfg, export).traps
    assert trap.id == 'other-classes'
    assert "'kangaroo', 'emu'" in trap.text
    with pytest.raises(ValueError, match='no box is left. Fix: train_dataloader = '):
        check_classes_known(cfg)
    cfg = follow(cfg, trap.fix)
    assert cfg.train_dataloader.dataset.dataset.metainfo.classes == ('kangaroo', 'emu')
    assert cfg.val_dataloader.dataset.metainfo.classes == ('kangaroo', 'emu')
    assert examine(cfg, export).traps == []
    check_classes_known(cfg)


def test_the_heads_of_mask2former_get_the_classes_too(tmp_path, quick_weights):
    """They count things and stuff, and weigh each class and no object."""
    categories = [dict(id=i, name=name) for i, name in enumerate(('kangaroo', 'emu'))]
    (tmp_path / 'train.json').write_text(json.dumps(dict(categories=categories)))
    cfg = get_config('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py')
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path), ann_file='train.json')
    with pytest.raises(ValueError, match='no box is left') as error:
        check_classes_known(cfg)
    cured = follow(cfg, str(error.value).split('Fix: ')[1])
    check_classes_known(cured)
    for part in (cured.model.panoptic_head, cured.model.panoptic_fusion_head):
        assert (part.num_things_classes, part.num_stuff_classes) == (2, 0)
    assert cured.model.panoptic_head.loss_cls.class_weight == [1.0, 1.0, 0.1]
    head = build(cured.model, 'mmdet').panoptic_head
    assert head.cls_embed.out_features == len(head.class_weight) == 3


@pytest.mark.parametrize(
    ('tested', 'said'),
    [
        (['cat', 'dog'], ''),
        (['cat', 'dog', 'unknown'], ''),
        (['dog', 'cat'], "class 0 is 'cat' .* and 'dog' in"),
        (['dog'], "class 0 is 'cat' .* and 'dog' in"),
        (['cat'], "class 1 is 'dog' .* and missing in"),
        (['cat', 'dog', 'emu'], ''),
    ],
)
def test_files_that_number_classes_differently(tmp_path, tested, said):
    cfg = tiny_detector(FASTER_RCNN)
    for name, names in dict(train=['bird', 'cat', 'dog'], val=tested).items():
        categories = [dict(id=i, name=name) for i, name in enumerate(names)]
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(categories=categories)))
        cfg[f'{name}_dataloader'].dataset.update(
            data_root=str(tmp_path),
            ann_file=f'{name}.json',
            metainfo=dict(classes=('dog', 'cat', 'emu')),
        )
    if said:
        with pytest.raises(ValueError, match=f'{said} .*val.json. Give both files the same'):
            check_class_numbers(cfg, 'val_dataloader')
    else:
        check_class_numbers(cfg, 'val_dataloader')
    check_class_numbers(cfg, 'test_dataloader')  # another file, which is not there
    cfg.val_dataloader.dataset.metainfo = dict(classes=('dog', 'cat'))  # another task
    check_class_numbers(cfg, 'val_dataloader')


@pytest.mark.parametrize('more', [['cat'], ['cat', 'dog', 'emu'], ['dog', 'cat']])
def test_several_files_of_one_training_number_classes_alike(tmp_path, more):
    cfg = tiny_detector(FASTER_RCNN)
    sets = []
    for name, names in dict(one=['cat', 'dog'], other=more).items():
        categories = [dict(id=i, name=name) for i, name in enumerate(names)]
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(categories=categories)))
        settings = dict(data_root=str(tmp_path), ann_file=f'{name}.json')
        metainfo = dict(classes=('dog', 'cat', 'emu'))
        sets.append(dict(cfg.train_dataloader.dataset, **settings, metainfo=metainfo))
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=sets)
    if more[0] == 'cat':
        check_class_numbers(cfg, 'val_dataloader')
    else:
        with pytest.raises(
            ValueError, match="class 0 is 'cat' in .*one.json, and 'dog' in .*other"
        ):
            check_class_numbers(cfg, 'val_dataloader')


@pytest.mark.parametrize('known', [80, 3])
def test_heads_of_the_data_sets_classes_follow_them(export, tmp_path, known):
    (tmp_path / 'train.json').write_text(json.dumps(dict(categories=[dict(id=1, name='emu')])))
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path), ann_file='train.json')
    cfg.model.roi_head.bbox_head.num_classes = known
    (trap,) = examine(cfg, export).traps
    cured = follow(cfg, trap.fix)
    assert cured.model.roi_head.bbox_head.num_classes == (1 if known == 80 else 3)
    assert examine(cured, export).traps == []
