from .check import LoadReport, check_load, count_table
from .checkpoint import read_checkpoint
from .mmdet import to_mmdet

__all__ = ['LoadReport', 'check_load', 'count_table', 'read_checkpoint', 'to_mmdet']
