"""The command ``mcl-mm doctor``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('doctor')
