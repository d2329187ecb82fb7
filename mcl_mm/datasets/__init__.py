"""Image sets, how their files are read, views, and the order of samples."""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):  # it prints that it misses a library nobody needs
    import mmpretrain.datasets  # noqa: F401

from .decoding import BadImageError
from .labelled_images import LabelledImages, labelled_sets
from .loading import LoadAnyImage, read_image
from .native_views import NativeViews
from .seeded_sampler import SeededIndex, SeededSampler, inner_sets, seed_generators
from .teacher_view import TeacherView
from .unlabelled_images import UnlabelledImages
from .worker_seed import seed_worker

__all__ = [
    'BadImageError',
    'LabelledImages',
    'LoadAnyImage',
    'NativeViews',
    'SeededIndex',
    'SeededSampler',
    'TeacherView',
    'UnlabelledImages',
    'inner_sets',
    'labelled_sets',
    'read_image',
    'seed_generators',
    'seed_worker',
]


def __getattr__(name: str) -> type:
    """The montage, which lives beside the model that runs it; it was imported from here before."""
    if name in ('Montage', 'MontageTransform'):
        from mcl_mm.models import montage

        return getattr(montage, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
