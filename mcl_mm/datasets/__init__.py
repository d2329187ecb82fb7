from .loading import LoadAnyImage
from .montage import Montage, MontageTransform
from .unlabelled_images import UnlabelledImages
from .worker_seed import seed_worker

__all__ = ['LoadAnyImage', 'Montage', 'MontageTransform', 'UnlabelledImages', 'seed_worker']
