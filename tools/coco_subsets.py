"""Draw small subsets of labels from annotations in COCO format: ``mcl-mm subsets``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('subsets')
