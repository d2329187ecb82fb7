"""Draw the quickstart's data set: ``python -m mcl_mm.quickstart.scenes``."""

from mcl_mm.quickstart.scenes import main

if __name__ == '__main__':
    main()
