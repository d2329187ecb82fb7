"""List the recipes that come with the package, or print one to edit.

    mcl-mm configs                              # all recipes, each with the first line of its file
    mcl-mm configs small                        # recipes with "small" in their name, or the recipe "small"
    mcl-mm configs mcl_r50_small > my.py        # a copy to edit; it runs in any folder: mcl-mm train my.py
    mcl-mm configs mcl_r50_small --path         # the path of its file

Every command that takes a config takes the name of a recipe, too.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('name', nargs='?', help='a recipe, or a part of the names to list')
    parser.add_argument('--path', action='store_true', help='print the path of the recipe instead')


def run(args: argparse.Namespace) -> None:
    """List or print."""
    from mcl_mm.config import describe, find_config, portable_text, recipes

    names = [name for name in recipes() if args.name is None or args.name in name]
    try:
        path = find_config(args.name) if args.name else None
    except (OSError, ValueError):
        if not names:
            raise
        path = None
    if path is None:
        width = max(map(len, names))
        print('\n'.join(f'{name:{width}}  {describe(name)}' for name in names))
    elif args.path:
        print(path)
    else:
        print(portable_text(path), end='')
