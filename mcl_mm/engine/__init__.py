from .bad_images_hook import BadImagesHook, TooManyBadImagesError
from .precise_bn_hook import PreciseBNHook
from .start_check import check_start
from .target_update_hook import TargetUpdateHook, cosine_momentum
from .transfer_hook import TransferHook

__all__ = [
    'BadImagesHook',
    'PreciseBNHook',
    'TargetUpdateHook',
    'TooManyBadImagesError',
    'TransferHook',
    'check_start',
    'cosine_momentum',
]
