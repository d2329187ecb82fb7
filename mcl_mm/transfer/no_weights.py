"""Files that hold no weights that could be loaded: what they hold instead, and what to do."""

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor

Path = Union[str, os.PathLike]
# Bytes that text does not have.
NO_TEXT = bytes({*range(32)} - {*b'\t\n\r\f\x1b'}) + b'\x7f'


def check_file(path: Path) -> None:
    """Refuse what is no file of PyTorch's by its first bytes.

    Args:
        path (str | PathLike): A file that is not in the format of safetensors.

    Raises:
        ValueError: It is empty, or text: a web page, a pointer, an index.
    """
    with open(path, 'rb') as file:
        start = file.read(512)
    if not start:
        raise ValueError(f'{path} is empty: copy or download it again')
    if start.startswith(b'version https://git-lfs'):
        raise ValueError(f'{path} is a pointer of Git LFS, not the file: run `git lfs pull`')
    if start.lstrip()[:1] == b'<':
        raise ValueError(f'{path} is a web page: download the file of weights again')
    if b'"weight_map"' in start or b'"total_size"' in start:
        raise ValueError(
            f'{path} lists the parts of weights that are spread over several files: write them into one'
        )
    if start.translate(None, NO_TEXT) == start and is_utf8(start):
        raise ValueError(f'{path} is a text file, not weights')


def check_whole_file(path: Path) -> None:
    """Refuse a file of PyTorch's whose parts do not have the checksums it was saved with.

    PyTorch itself looks at none. This takes about as long as reading the file does.

    Args:
        path (str | PathLike): The file; one in PyTorch's format of before 2020 has no checksums.

    Raises:
        ValueError: It is truncated or damaged.
    """
    with open(path, 'rb') as file:
        if file.read(2) != b'PK':
            return
    try:
        with zipfile.ZipFile(path) as archive:
            # A program may have saved none: torch.serialization.set_crc32_options(False).
            known = any(part.CRC for part in archive.infolist())
            broken = archive.testzip() if known else None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(
            f'{path} is truncated or damaged ({error}): copy or download it again'
        ) from error
    if broken:
        raise ValueError(f'{path} is damaged, in its part {broken}: copy or download it again')


def is_utf8(start: bytes) -> bool:
    """Whether the beginning of a file is text, but for a last letter that may be cut off."""
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 3
    return True


def other_content(checkpoint: Mapping, path: Path) -> str:
    """What a file holds in the place of weights, and which line takes the weights inside of it out.

    Args:
        checkpoint (Mapping): Read from the file.
        path (str | PathLike): The file.

    Returns:
        str: The end of a sentence.
    """
    names = [str(name) for name in checkpoint]
    text = f'but {", ".join(names[:6])}' + f' and {len(names) - 6} more' * (len(names) > 6)
    found = list(weights_inside(checkpoint))
    if found:
        keys = ''.join(f'[{key!r}]' for key in found[0])
        others = [''.join(f'[{key!r}]' for key in other) for other in found[1:4]]
        more = f' (or {", ".join(others)})' if others else ''
        return (
            f'{text}. Take the weights out, in Python: '
            f'torch.save(torch.load({str(path)!r}){keys}, {"weights.pth"!r}){more}'
        )
    inside = checkpoint.get('state_dict', checkpoint)
    values = list(inside.values()) if isinstance(inside, Mapping) else []
    if values and 2 * sum(isinstance(value, np.ndarray) for value in values) > len(values):
        return (
            f'{text}: arrays of NumPy. Make tensors of them with torch.from_numpy, and save these'
        )
    return text


def weights_inside(content: Any, keys: tuple = ()) -> Iterator[tuple]:
    """The keys that lead to mappings from names to tensors, two levels down at most."""
    if not isinstance(content, Mapping):
        return
    tensors = sum(map(torch.is_tensor, content.values()))
    if keys and tensors and 2 * tensors > len(content):
        yield keys
    elif len(keys) < 3:
        for key, value in content.items():
            if key != 'optimizer':  # its averages have tensors too
                yield from weights_inside(value, (*keys, key))


def check_values(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that would spoil a model without a word.

    Raises:
        ValueError: A tensor has no values (``meta``), is quantised or sparse, or holds numbers that are not
            finite.
    """
    for name, value in weights.items():
        if value.is_meta:
            raise ValueError(
                f'{path} has names and shapes without values, first {name}: save it anew'
            )
        whole = name.endswith('weight') and not (value.is_floating_point() or value.is_complex())
        small = value.is_floating_point() and value.dtype.itemsize < 2  # float8
        if value.is_quantized or whole or small or value.layout != torch.strided:
            kind = 'sparse' if value.layout != torch.strided else 'quantised'
            raise ValueError(f'{path} has {kind} weights, first {name}: save plain float32 tensors')
        # The mask of attention in some networks hides by minus infinity.
        sound = value.isnan().logical_not() if name.endswith('mask') else value.isfinite()
        if not sound.all():
            raise ValueError(
                f'{path} has weights that are not finite numbers, first {name}: take an earlier checkpoint'
            )
