"""Pre-train, or fine-tune a detector; ``--help`` tells how."""

from mcl_mm.cli import main

if __name__ == '__main__':
    main('train')
