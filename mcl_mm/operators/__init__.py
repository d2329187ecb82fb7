"""Operators for an mmcv that was installed without compiled ones.

mmcv's Python side calls C++ through the module ``mmcv._ext``. Where nobody compiled that module,
:func:`supply` puts one in its place whose functions stand on torchvision and PyTorch. A compiled
module is always found first and is left alone. ``docs/operators.md`` lists the operators.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec

from mmengine.hooks import Hook
from mmengine.runner import Runner

from .placeholder import placeholder
from .repair import repair_early_imports

NAME = 'mmcv._ext'
FAMILIES = (
    'attention',
    'boxes',
    'deform_conv',
    'deform_roi_pool',
    'losses',
    'pooling',
    'reassembly',
    'sync_bn',
    'versions',
)


class _SuppliedModule(types.ModuleType):
    """``mmcv._ext``: the supplied operators, and a placeholder under every other name."""

    def __getattr__(self, name: str) -> object:
        # mmcv.ops asserts at import that each of its operators exists, also the many of 3D
        # detection. They may be absent until somebody calls them.
        if name.startswith('_'):
            raise AttributeError(f'module {NAME!r} has no attribute {name!r}')
        return placeholder(name)


class _Finder:
    """Finds ``mmcv._ext`` where no finder before it did; stands last in ``sys.meta_path``."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == NAME else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _SuppliedModule(spec.name, __doc__)

    def exec_module(self, module: types.ModuleType) -> None:
        for family in FAMILIES:
            functions = importlib.import_module(f'{__name__}.{family}')
            vars(module).update({name: getattr(functions, name) for name in functions.__all__})


_FINDER = _Finder()


def supply() -> None:
    """Supply mmcv's operators from torchvision unless mmcv has compiled ones.

    Call it before anything needs ``mmcv.ops``; importing ``mcl_mm`` does. Modules of MMDetection
    that were imported earlier, and had to do without operators, get them now. Runs say which
    operators they use. Calling it again changes nothing.

    Raises:
        ImportError: mmcv has compiled operators that cannot be loaded.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
    if not is_supplied():
        try:
            importlib.import_module(NAME)
        except ImportError as error:
            raise ImportError(
                f"mmcv's compiled operators cannot be loaded ({error}); they were built for other "
                f'libraries. Install mmcv again without them: MMCV_WITH_OPS=0 pip install --no-cache-dir '
                f'--force-reinstall --no-deps onedl-mmcv, and mcl_mm takes the operators from torchvision'
            ) from error
    repair_early_imports()
    announce_in_runs()


def is_supplied() -> bool:
    """Whether mmcv's operators are the ones of this package, not compiled ones of mmcv."""
    spec = importlib.util.find_spec(NAME)
    return spec is not None and isinstance(spec.loader, _Finder)


def describe() -> str:
    """One line that says which operators mmcv uses in this process."""
    import mmcv

    if not is_supplied():
        return f'operators: compiled with mmcv {mmcv.__version__}'
    torchvision = importlib.metadata.version('torchvision').partition('+')[0]
    return (
        f'operators: from torchvision {torchvision}, '
        f'mmcv {mmcv.__version__} has no compiled ones (docs/operators.md)'
    )


class OperatorsHook(Hook):
    """Says at the start of a run which operators mmcv uses."""

    def before_run(self, runner: Runner) -> None:
        """Log :func:`describe`; loggers of other processes than the main one keep it back."""
        runner.logger.info(describe())


def announce_in_runs() -> None:
    """Give every Runner that is built from now on an :class:`OperatorsHook`.

    A config cannot be asked to: MMDetection's own tools know ``custom_imports`` only. Calling it
    again changes nothing.
    """
    register = Runner.register_hooks
    if register.__module__ == __name__:
        return

    def register_hooks(self: Runner, *args: object, **kwargs: object) -> None:
        register(self, *args, **kwargs)
        self.register_hook(OperatorsHook())

    Runner.register_hooks = register_hooks
