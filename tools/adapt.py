"""The command ``mcl-mm adapt``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('adapt')
