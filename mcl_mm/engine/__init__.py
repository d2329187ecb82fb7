from .bad_images_hook import BadImagesHook, TooManyBadImagesError
from .level_log_processor import LevelLogProcessor
from .monitor_hook import MonitorHook, effective_rank
from .precise_bn_hook import PreciseBNHook
from .start_check import check_start
from .target_update_hook import TargetUpdateHook, cosine_momentum
from .transfer_hook import TransferHook

__all__ = [
    'BadImagesHook',
    'LevelLogProcessor',
    'MonitorHook',
    'PreciseBNHook',
    'TargetUpdateHook',
    'TooManyBadImagesError',
    'TransferHook',
    'check_start',
    'cosine_momentum',
    'effective_rank',
]
