"""Matplotlib, drawing into files."""

from pathlib import Path
from typing import Any, Union

try:
    import matplotlib
except ImportError as error:
    raise OSError('pictures of curves need matplotlib: pip install matplotlib') from error

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from mcl_mm.files import atomic_path

__all__ = ['Line2D', 'plt', 'save']


def save(figure: plt.Figure, path: Union[str, Path], **settings: Any) -> None:
    """Write a figure as a whole or not at all, and forget it.

    Args:
        figure (plt.Figure): The figure.
        path (str | Path): A file; its ending says the format.
        **settings: As of ``savefig``.

    Raises:
        OSError: It could not be written.
    """
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110, **settings)
    finally:
        plt.close(figure)
