from .check import LoadReport, check_load
from .checkpoint import read_checkpoint
from .mmdet import to_mmdet

__all__ = ['LoadReport', 'check_load', 'read_checkpoint', 'to_mmdet']
