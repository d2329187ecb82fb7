"""How good, how fast and how costly a pre-training is."""

from .dense_probe import DenseProbe, fit_linear
from .knn_probe import KNNProbe, vote
from .picture_hook import PictureHook
from .probe import Probe

__all__ = ['DenseProbe', 'KNNProbe', 'PictureHook', 'Probe', 'fit_linear', 'vote']
