from .start_check import check_start
from .target_update_hook import TargetUpdateHook, cosine_momentum
from .transfer_hook import TransferHook

__all__ = ['TargetUpdateHook', 'TransferHook', 'check_start', 'cosine_momentum']
