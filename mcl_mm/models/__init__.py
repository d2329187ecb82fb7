"""The method: algorithm, montage, neck, heads, data preprocessor."""

from .channel_augmentation import ChannelAugmentation
from .channel_means import ChannelsDetDataPreprocessor
from .distilled_mcl import DistillationDataPreprocessor, DistillationHead, DistilledMCL
from .mcl import MCL
from .mcl_neck import MCLNeck, RegionProjector
from .montage import Montage, MontageTransform
from .montage_data_preprocessor import MontageDataPreprocessor
from .montage_model import MontageModel
from .multi_level_contrastive_head import MultiLevelContrastiveHead
from .photometric import PhotometricAugmentation
from .res_layer_extra_norm import ResLayerExtraNorm
from .supervised_mcl import MultiLevelClassificationHead, SupervisedMCL
from .teacher import Teacher

__all__ = [
    'MCL',
    'ChannelAugmentation',
    'ChannelsDetDataPreprocessor',
    'DistillationDataPreprocessor',
    'DistillationHead',
    'DistilledMCL',
    'MCLNeck',
    'Montage',
    'MontageDataPreprocessor',
    'MontageModel',
    'MontageTransform',
    'MultiLevelClassificationHead',
    'MultiLevelContrastiveHead',
    'PhotometricAugmentation',
    'RegionProjector',
    'ResLayerExtraNorm',
    'SupervisedMCL',
    'Teacher',
]
