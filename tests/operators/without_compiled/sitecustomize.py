"""A Python that starts with this folder on its path does not find compiled operators of mmcv.

Nor does it format configs, which takes longer than the runs.
"""

from importlib.machinery import PathFinder

import yapf.yapflib.yapf_api

yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, True)
_find_spec = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    """Find a module, but never ``mmcv._ext``."""
    return None if name == 'mmcv._ext' else _find_spec(name, path, target)


PathFinder.find_spec = find_spec
