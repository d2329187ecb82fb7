from .loading import BadImageError, LoadAnyImage, read_image
from .montage import Montage, MontageTransform
from .unlabelled_images import UnlabelledImages
from .worker_seed import seed_worker

__all__ = [
    'BadImageError',
    'LoadAnyImage',
    'Montage',
    'MontageTransform',
    'UnlabelledImages',
    'read_image',
    'seed_worker',
]
