"""The command ``mcl-mm compare-pretrain``, see ``--help``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('compare-pretrain')
