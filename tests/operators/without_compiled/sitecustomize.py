"""A Python that starts with this folder on its path does not find compiled operators of mmcv."""

from importlib.machinery import PathFinder

_find_spec = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    """Find a module, but never ``mmcv._ext``."""
    return None if name == 'mmcv._ext' else _find_spec(name, path, target)


PathFinder.find_spec = find_spec
