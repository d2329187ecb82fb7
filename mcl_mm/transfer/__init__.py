"""Weights in and out: files, other libraries' names (``formats``), detectors (``detector``).

The names below are imported when they are asked for: ``import mcl_mm`` needs the reader of files alone.
"""

from importlib import import_module
from typing import Any

HOMES = {
    'read_checkpoint': 'checkpoint',
    'to_detectron2': 'formats.detectron2',
    'to_mmdet': 'formats.mmdet',
    'to_mmpretrain': 'formats.mmpretrain',
    'Renamed': 'formats.rename',
    'to_timm': 'formats.timm',
    'to_torchvision': 'formats.torchvision',
    'Diagnosis': 'detector.doctor',
    'diagnose': 'detector.doctor',
    'fit_to_detector': 'detector.fit',
    'check_load': 'detector.judge',
    'check_sources': 'detector.judge',
    'check_whole': 'detector.judge',
    'LoadReport': 'detector.load_report',
    'count_table': 'parts',
}

__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{HOMES[name]}'), name)
