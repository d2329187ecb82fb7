"""Embeddings of images by a teacher, in a file, so that it need not run in every epoch."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mcl_mm.files import atomic_path

from .decoding import BadImageError, shown


class TeacherCache:
    """A file of embeddings, of which only those that are asked for are read.

    Args:
        path (str): The file, from :func:`write_cache`.

    Attributes:
        about (dict[str, str]): What made the embeddings, see :func:`write_cache`.
        rows (dict[str, int]): Places of the images, by absolute path.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is something else.
    """

    def __init__(self, path: str) -> None:
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f'no embeddings at {path}: write them with mcl-mm cache-teacher CONFIG --out {path}'
            )
        self.path, self.file = path, None
        try:
            with safe_open(path, framework='pt') as file:
                names = bytes(file.get_tensor('names').numpy()).decode(errors='surrogateescape')
                self.about = file.metadata() or {}
        except SafetensorError as error:
            raise ValueError(f'{path} holds no embeddings of a teacher: {error}') from error
        self.rows = {os.path.abspath(name): row for row, name in enumerate(names.split('\n'))}

    def __contains__(self, name: str) -> bool:
        """Whether an image is in the file, however its path is written."""
        return os.path.abspath(name) in self.rows

    def read(self, name: str) -> Tensor:
        """The embedding of an image, ``(D,)``, float32.

        Args:
            name (str): Its path.

        Raises:
            BadImageError: It could not be read when the file was written.
            ValueError: It is not in the file.
        """
        if self.file is None:
            self.file = safe_open(self.path, framework='pt').__enter__()
        row = self.rows.get(os.path.abspath(name))
        if row is None:
            raise ValueError(
                f'{shown(name)} has no embedding in {self.path}: write that file again with mcl-mm '
                'cache-teacher'
            )
        embedding = self.file.get_slice('embeddings')[row : row + 1][0]
        if embedding.isnan().any():
            raise BadImageError(name, f'not readable: not when {self.path} was written')
        return embedding

    def __getstate__(self) -> dict:
        return dict(self.__dict__, file=None)  # each process opens it for itself


def write_cache(path: str, names: Sequence[str], embeddings: Tensor, about: dict[str, str]) -> None:
    """Write embeddings, as a whole or not at all.

    Args:
        path (str): The file.
        names (Sequence[str]): Paths of the images; absolute ones are written.
        embeddings (Tensor): ``(N, D)``, float32; not a number for images that cannot be read.
        about (dict[str, str]): ``teacher`` (its fingerprint) and ``view`` (how images are prepared).
    """
    text = '\n'.join(map(os.path.abspath, names)).encode(errors='surrogateescape')
    tensors = dict(
        embeddings=embeddings, names=torch.frombuffer(bytearray(text), dtype=torch.uint8)
    )
    with atomic_path(Path(path)) as temporary:
        save_file(tensors, temporary, about)
