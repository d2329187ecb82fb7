"""Run another project's script with the operators in their place.

    python -m mcl_mm.operators SCRIPT [ARGUMENT ...]

For scripts that import operators of mmcv before they read a config with ``custom_imports``.
"""

import os
import sys

if __name__ == '__main__':
    del sys.argv[0]
    if not sys.argv or not os.path.isfile(sys.argv[0]):
        sys.exit('python -m mcl_mm.operators needs the path of a script and its arguments')
    __file__ = sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(__file__))
    with open(__file__, 'rb') as script:
        code = compile(script.read(), __file__, 'exec')
    # In this module, not in one of its own as runpy would: processes that are spawned import their
    # parent's main module, which gives them the operators too.
    exec(code, globals())
