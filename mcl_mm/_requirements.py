"""Checks, when ``mcl_mm`` is imported, the libraries it stands on.

Both the maintained ``onedl-*`` distributions and the original OpenMMLab ones are accepted: they
share their import names.
"""

import importlib
from collections.abc import Callable

from packaging.version import Version

from . import operators

# import name: (first version that works, what to hand to ``pip install``)
REQUIREMENTS = {
    'torch': ('2.6', '"torch>=2.6"'),
    'mmengine': ('0.10', 'onedl-mmengine'),
    'mmcv': ('2.1', 'onedl-mmcv'),
    'mmdet': ('3.3', 'onedl-mmdetection'),
    'mmpretrain': ('1.2', 'onedl-mmpretrain'),
    'safetensors': ('0.4', 'safetensors'),
}


def check_requirements(import_module: Callable = importlib.import_module) -> None:
    """Import each required library and compare its version.

    Args:
        import_module (Callable): Takes an import name, returns the module. Replaced in tests.

    Raises:
        ImportError: A library is missing, too old, or refuses to be imported beside the other
            ones. The message says what to install.
    """
    for name, (minimum, package) in REQUIREMENTS.items():
        fix = f'install it with: pip install -U {package}'
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise ImportError(f'mcl_mm needs {name}, which cannot find {error.name!r}: '
                                  f'install that module') from error  # fmt: skip
            raise ImportError(f'mcl_mm needs {name}>={minimum}, not found: {fix}') from error
        except (AssertionError, ImportError) as error:
            raise ImportError(
                f'mcl_mm needs {name}, whose import fails ({error}): {fix}'
            ) from error
        version = Version(module.__version__)
        if version < Version(minimum):
            raise ImportError(f'mcl_mm needs {name}>={minimum}, found {version}: {fix}')


check_requirements()
operators.supply()
