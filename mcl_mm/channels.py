"""One setting of a pre-training config, ``channels = N``, and what follows from it."""

import json
import os
from typing import Any, Optional

from mmengine.config import Config

from mcl_mm.config import find_parts, type_name
from mcl_mm.datasets.channels import check_channels, check_views
from mcl_mm.datasets.depth import RANGE_FILE
from mcl_mm.transfer.detector.settings import default_of, scope_of

SETS = ('UnlabelledImages', 'LabelledImages')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Mean and deviation of values in [0, 255] that nobody has measured.
MEAN, STD = 127.5, 64.0
# Those of the recipes, which are of photographs.
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


def follow_channels(cfg: Config) -> None:
    """Let data, augmentation and network take images of ``cfg.channels`` channels, as they are stored.

    Data sets get ``channels``, the backbone ``in_channels``, and :class:`PhotometricAugmentation` becomes
    :class:`ChannelAugmentation` of the same strengths. ``mean`` and ``std`` are those that ``check-images``
    has written beside the list of images, unless the config has some of its own for N channels. A config
    without ``channels`` stays as it is.

    Args:
        cfg (Config): Of a pre-training run, changed in place.

    Raises:
        ValueError: It is no number of channels; or the views, the backbone or the model are for RGB.
    """
    channels = cfg.get('channels')
    check_channels(channels)
    if channels is None:
        return
    model = cfg.get('model') or {}
    if type_name(model) not in ('MCL', 'SupervisedMCL'):
        raise ValueError(
            f'channels={channels} is a setting of pre-training with MCL, and this is a config of '
            f'{type_name(model) or "nothing"}: a detector gets its channels from `mcl-mm adapt`'
        )
    if 'backbone' not in model or 'data_preprocessor' not in model:
        raise ValueError(
            f'channels={channels} needs model.backbone and model.data_preprocessor: begin the config with '
            'the _base_ of a recipe, such as mcl_r50_small'
        )
    for loader in LOADERS:
        for images in find_parts(cfg.get(loader), *SETS):
            check_views(images.get('pipeline'), channels)
            images.channels = channels
    if default_of(model.backbone, 'in_channels', scope_of(cfg)) is None:
        raise ValueError(
            f'{type_name(model.backbone)} has no setting in_channels, and takes RGB images alone: take a '
            'backbone that has, such as mmpretrain.ResNet'
        )
    model.backbone.in_channels = channels
    follow_pixels(model.data_preprocessor, channels, measured_beside(cfg, channels))


def follow_pixels(preprocessor: dict, channels: int, measured: Optional[dict]) -> None:
    """The data preprocessor of :func:`follow_channels`, in place."""
    preprocessor['bgr_to_rgb'] = False
    neutral = dict(mean=[MEAN] * channels, std=[STD] * channels)
    for key, value in neutral.items():
        given = list(preprocessor.get(key) or ())
        if len(given) != channels or given == value or given in IMAGENET:
            preprocessor[key] = (measured or neutral)[key]
    for part in preprocessor.get('photometric') or ():
        if type_name(part) == 'PhotometricAugmentation':
            part['type'] = 'mcl_mm.ChannelAugmentation'
            for key in ('saturation', 'hue', 'gray_prob', 'solarize_prob', 'solarize_threshold'):
                part.pop(key, None)


def measured_beside(cfg: Config, channels: int) -> Optional[dict[str, Any]]:
    """What ``check-images --channels`` has written beside the list of a run's training images."""
    for images in find_parts(cfg.get('train_dataloader'), *SETS):
        listed = os.path.join(images.get('data_root') or '', images.get('ann_file') or '')
        path = os.path.expanduser(listed) + RANGE_FILE
        if images.get('ann_file') and os.path.isfile(path):
            with open(path, encoding='utf-8') as file:
                found = json.load(file)
            if len(found.get('mean') or ()) == channels:
                return found
    return None
