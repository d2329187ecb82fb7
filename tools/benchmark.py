"""The command ``mcl-mm benchmark``, see ``--help``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('benchmark')
