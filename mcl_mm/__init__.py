"""Multi-Level Contrastive Learning for dense prediction, native to MMEngine and MMDetection."""

__version__ = '0.2.0'

from . import (
    _requirements,  # noqa: F401  (first: it checks the libraries that the rest imports)
    registry,  # noqa: F401
)
from .transfer.checkpoint import register_loaders

register_loaders()
