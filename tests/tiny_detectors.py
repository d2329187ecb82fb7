"""A tiny Faster R-CNN with the blocks of a ResNet-50, and an export for it."""

import tempfile
from pathlib import Path

from mmengine.config import Config

from conftest import build_detector, tiny_detector
from mcl_mm.transfer import diagnose

FASTER_RCNN = 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
META = dict(
    input=dict(channel_order='RGB', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type='mmpretrain.ResNet', depth=50),
)


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


def change(path, value):
    return lambda cfg: cfg.merge_from_dict({path: value})


def examine(cfg, checkpoint, parts=None, processes=8):
    return diagnose(build_detector(cfg.model), checkpoint, cfg, parts, processes)


def follow(cfg, advice):
    """What MMEngine makes of a config that inherits from ``cfg`` and has the lines of a fix."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / 'base.py'
        base.write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.to_dict().items()))
        lines = advice.replace('; ', '\n')
        return Config.fromstring(f'_base_ = {str(base)!r}\n{lines}\n', '.py')


def ids(findings):
    return [finding.id for finding in findings]
