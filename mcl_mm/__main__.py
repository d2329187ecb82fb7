"""``python -m mcl_mm`` is the command ``mcl-mm``."""

from mcl_mm.cli import main

main()
