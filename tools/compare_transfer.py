"""The command ``mcl-mm compare-transfer``, see ``--help``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('compare-transfer')
