"""The command ``mcl-mm export``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('export')
