"""The command ``mcl-mm convert``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('convert')
