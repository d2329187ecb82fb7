"""What stands in for an operator that neither mmcv nor this package has."""

import sys
from collections.abc import Callable
from types import FrameType

COMPILE = (
    'Compile it with `bash tools/install.sh --compile-operators`, or, where PyTorch and a C++ '
    'compiler (for a GPU also nvcc) are installed, with '
    '`MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps '
    'onedl-mmcv`.'
)


def missing(what: str) -> NotImplementedError:
    """The error for an operator, or a mode of one, that is not there.

    Args:
        what (str): Names the operator, ``border_align_forward``.

    Returns:
        NotImplementedError: Its message names the operator, mmcv's function that called it, the
        code that called mmcv, and how to get the operator compiled.
    """
    return NotImplementedError(
        f"mmcv's operator {what} is missing: mmcv has no compiled operators, and this one does "
        f'not come from torchvision. {_askers(sys._getframe(2))}{COMPILE}'
    )


def placeholder(name: str) -> Callable:
    """A function that raises :func:`missing` when it is called."""

    def absent(*args: object, **kwargs: object) -> None:
        raise missing(name)

    absent.__name__ = name
    return absent


def _askers(frame: FrameType | None) -> str:
    """A sentence with the frame that called the operator and the first one outside of mmcv."""
    asked = []
    while frame is not None:
        module = frame.f_globals.get('__name__', '?')
        package = module.partition('.')[0]
        if package not in ('torch', __name__.partition('.')[0]) and (
            not asked or package != 'mmcv'
        ):
            asked.append(f'{module}.{getattr(frame.f_code, "co_qualname", frame.f_code.co_name)}')
        if len(asked) == 2:
            break
        frame = frame.f_back
    return f'It was asked for by {", called from ".join(asked)}. ' if asked else ''
