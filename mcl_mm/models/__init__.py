from .mcl import MCL
from .mcl_neck import MCLNeck, RegionProjector
from .montage_data_preprocessor import MontageDataPreprocessor
from .multi_level_contrastive_head import MultiLevelContrastiveHead
from .photometric import PhotometricAugmentation

__all__ = [
    'MCL',
    'MCLNeck',
    'MontageDataPreprocessor',
    'MultiLevelContrastiveHead',
    'PhotometricAugmentation',
    'RegionProjector',
]
