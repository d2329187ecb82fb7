from .start_check import check_start
from .target_update_hook import TargetUpdateHook, cosine_momentum

__all__ = ['TargetUpdateHook', 'check_start', 'cosine_momentum']
