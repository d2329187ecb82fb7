"""How the operators come to stand under mmcv's name, in processes of their own."""

import importlib.util
import json
import os
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from PIL import Image

ROOT = Path(__file__).parents[2]
TOOLS = Path(mmdet.__file__).parent / '.mim/tools'


def without_compiled_operators(*command: str, timeout: float = 600) -> str:
    """Output of a Python process in which nothing finds a compiled ``mmcv._ext``.

    ``sitecustomize`` hides it from the search for modules, as if it had not been built.
    """
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    hidden = str(Path(__file__).parent / 'without_compiled')
    environment['PYTHONPATH'] = os.pathsep.join(
        [hidden, str(ROOT), *filter(None, [environment.get('PYTHONPATH')])]
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


MODULE = """
import sys
import mmdet.structures.mask.structures as early  # goes on without roi_align
assert 'mmcv.ops' not in sys.modules
import mcl_mm
import numpy as np, torch
from mcl_mm import operators
from mmdet.structures.mask import BitmapMasks
from mmengine.utils.dl_utils import mmcv_full_available

assert operators.is_supplied() and mmcv_full_available()
print(operators.describe())
masks = BitmapMasks(np.ones((1, 8, 8), np.uint8), 8, 8)
cut = masks.crop_and_resize(np.array([[0, 0, 8, 8.0]], np.float32), (4, 4), np.array([0]))
print(cut.masks.sum())

import mmdet.models
from mmcv.ops import border_align, get_compiler_version, get_compiling_cuda_version
print(get_compiler_version(), get_compiling_cuda_version())
try:
    border_align(torch.rand(1, 4, 4, 4), torch.rand(1, 16, 4), 2)
except NotImplementedError as error:
    print(error)
"""


def test_the_supplied_module():
    said, mask, versions, missing = without_compiled_operators('-c', MODULE).splitlines()[-4:]
    assert said.startswith('operators: from torchvision ')
    assert 'no compiled ones (docs/operators.md)' in said
    assert mask == '16'
    assert versions.startswith('none, operators from torchvision ')
    for part in (
        'operator border_align_forward is missing',
        'asked for by mmcv.ops.border_align.',
        'called from __main__.',
        'tools/install.sh --compile-operators',
        'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps '
        'onedl-mmcv',
    ):
        assert part in missing


@pytest.mark.skipif(not TOOLS.is_dir(), reason='this MMDetection has no tools')
def test_mmdetections_own_tools(tmp_path, tiny_coco):
    """A small Mask R-CNN, and in training a worker that is spawned.

    ``tools/train.py`` needs ``custom_imports`` alone; ``tools/test.py`` asks for operators before
    it reads the config. What it finds with the weights of ``tools/train.py`` is what they find here.
    """
    config, work = tmp_path / 'config.py', tmp_path / 'work'
    config.write_text(CONFIG.format(data=tiny_coco, work_dir=work))
    output = without_compiled_operators(str(TOOLS / 'train.py'), str(config))
    assert output.count('operators: from torchvision ') == 1
    losses = [float(loss) for loss in re.findall(r' loss: ([\d.]+)', output)]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)

    weights, found = work / 'iter_2.pth', tmp_path / 'found.pkl'
    arguments = [str(config), str(weights), '--out', str(found)]
    test = ['-m', 'mcl_mm.operators', str(TOOLS / 'test.py')]
    output = without_compiled_operators(*test, *arguments)
    assert output.count('operators: from torchvision ') == 1
    assert 'coco/bbox_mAP: ' in output
    assert 'coco/segm_mAP: ' in output
    detector = init_detector(str(config), str(weights), device='cpu')
    results = pickle.loads(found.read_bytes())
    assert [Path(result['img_path']).name for result in results] == ['1.png', '2.png']
    for result in results:
        expected = inference_detector(detector, result['img_path']).pred_instances
        assert len(expected) > 0
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(result['pred_instances'][key], expected[key])


CONFIG = """
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mcl_mm'])
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None, frozen_stages=-1),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=1),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_classes=1),
    ),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackDetInputs'),
]
squares = dict(
    data_root='{data}/',
    ann_file='annotations.json',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=('square',)),
    pipeline=pipeline,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    multiprocessing_context='spawn',
    dataset=dict(filter_cfg=None, **squares),
)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=squares)
test_evaluator = dict(ann_file='{data}/annotations.json')
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2)
val_cfg = val_dataloader = val_evaluator = None
param_scheduler = []
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2), logger=dict(interval=1))
work_dir = '{work_dir}'
"""


@pytest.fixture
def tiny_coco(tmp_path):
    """Two images with one square each."""
    (tmp_path / 'images').mkdir()
    images, annotations = [], []
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'images' / f'{number}.png')
        images.append(dict(id=number, file_name=f'{number}.png', width=64, height=64))
        corners = [10, 10, 40, 10, 40, 40, 10, 40]
        annotations.append(
            dict(
                id=number,
                image_id=number,
                category_id=1,
                bbox=[10, 10, 30, 30],
                area=900,
                iscrowd=0,
                segmentation=[corners],
            )
        )
    categories = [dict(id=1, name='square')]
    (tmp_path / 'annotations.json').write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )
    return tmp_path


@pytest.mark.parametrize('arguments', [[], ['no_such_script.py']])
def test_a_script_that_is_not_there(monkeypatch, arguments):
    monkeypatch.setattr(sys, 'argv', ['__main__.py', *arguments])
    with pytest.raises(SystemExit, match='needs the path of a script'):
        runpy.run_module('mcl_mm.operators', run_name='__main__')


def test_operators_that_cannot_be_loaded(monkeypatch):
    from mcl_mm import operators

    def fail(name):
        raise ImportError('undefined symbol: _ZN3c10')

    monkeypatch.setattr(operators, 'is_supplied', lambda: False)
    monkeypatch.setattr(operators.importlib, 'import_module', fail)
    with pytest.raises(ImportError, match=r'cannot be loaded \(undefined symbol.*pip install'):
        operators.supply()


def test_compiled_operators_win():
    from mcl_mm import operators

    if operators.is_supplied():
        pytest.skip('mmcv has no compiled operators here')
    import mmcv

    spec = importlib.util.find_spec(operators.NAME)
    assert spec.origin.endswith(('.so', '.pyd'))
    assert operators.describe() == f'operators: compiled with mmcv {mmcv.__version__}'
