"""Find the images of a folder that cannot be used: ``mcl-mm check-images``."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('check-images')
