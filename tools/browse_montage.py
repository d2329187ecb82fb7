"""The command ``mcl-mm browse``, see ``--help``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('browse')
