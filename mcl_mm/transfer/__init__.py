from .check import LoadReport, check_load, check_whole, count_table
from .checkpoint import read_checkpoint
from .detectron2 import to_detectron2
from .doctor import Diagnosis, diagnose
from .fit import fit_to_detector
from .mmdet import to_mmdet
from .mmpretrain import to_mmpretrain
from .rename import Renamed
from .timm import to_timm
from .torchvision import to_torchvision

__all__ = [
    'Diagnosis',
    'LoadReport',
    'Renamed',
    'check_load',
    'check_whole',
    'count_table',
    'diagnose',
    'fit_to_detector',
    'read_checkpoint',
    'to_detectron2',
    'to_mmdet',
    'to_mmpretrain',
    'to_timm',
    'to_torchvision',
]
