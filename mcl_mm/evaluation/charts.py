"""Matplotlib, drawing into files."""

try:
    import matplotlib
except ImportError as error:
    raise OSError('pictures of curves need matplotlib: pip install matplotlib') from error

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

__all__ = ['Line2D', 'plt']
