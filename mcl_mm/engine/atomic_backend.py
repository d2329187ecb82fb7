"""MMEngine's file backend for checkpoints that are whole or not there."""

from pathlib import Path
from typing import Union

from mmengine.fileio import LocalBackend, register_backend

from mcl_mm.files import write_bytes, write_text


@register_backend('mcl_mm.atomic', force=True)
class AtomicBackend(LocalBackend):
    """Local files that appear under their name when they are complete, on the disk and read back."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write a file; see :func:`mcl_mm.files.write_bytes`."""
        write_bytes(filepath, obj)

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        """Write a text file; see :func:`mcl_mm.files.write_text`."""
        write_text(filepath, obj, encoding)
