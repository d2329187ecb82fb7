from .decoding import BadImageError
from .labelled_images import LabelledImages
from .loading import LoadAnyImage, read_image
from .montage import Montage, MontageTransform
from .native_views import NativeViews
from .seeded_sampler import SeededIndex, SeededSampler, inner_sets, seed_generators
from .unlabelled_images import UnlabelledImages
from .worker_seed import seed_worker

__all__ = [
    'BadImageError',
    'LabelledImages',
    'LoadAnyImage',
    'Montage',
    'MontageTransform',
    'NativeViews',
    'SeededIndex',
    'SeededSampler',
    'UnlabelledImages',
    'inner_sets',
    'read_image',
    'seed_generators',
    'seed_worker',
]
