"""What a run is made of beside the model: hooks, loops, optimiser, checkpoints, checks."""

from .atomic_backend import AtomicBackend
from .bad_images_hook import BadImagesHook, TooManyBadImagesError
from .checkpoint_hook import SafeCheckpointHook
from .cpu import CPUAmpOptimWrapper
from .exact_resume import ExactResumeHook, ResumableEpochLoop
from .follow_config import FollowConfigHook
from .intact_checkpoint import find_intact_checkpoint
from .label_check import check_classes
from .lars import LARS
from .lazy_runtime_info_hook import LazyRuntimeInfoHook
from .level_log_processor import LevelLogProcessor
from .monitor_hook import MonitorHook, effective_rank
from .nonfinite_hook import NonFiniteHook
from .precise_bn_hook import PreciseBNHook
from .quiet_start import QuietRunner
from .start_check import check_start
from .start_summary import StartSummaryHook
from .target_update_hook import TargetUpdateHook, cosine_momentum
from .transfer_hook import TransferHook
from .value_range_hook import ValueRangeHook

__all__ = [
    'LARS',
    'AtomicBackend',
    'BadImagesHook',
    'CPUAmpOptimWrapper',
    'ExactResumeHook',
    'FollowConfigHook',
    'LazyRuntimeInfoHook',
    'LevelLogProcessor',
    'MonitorHook',
    'NonFiniteHook',
    'PreciseBNHook',
    'QuietRunner',
    'ResumableEpochLoop',
    'SafeCheckpointHook',
    'StartSummaryHook',
    'TargetUpdateHook',
    'TooManyBadImagesError',
    'TransferHook',
    'ValueRangeHook',
    'check_classes',
    'check_start',
    'cosine_momentum',
    'effective_rank',
    'find_intact_checkpoint',
]
