"""The option that changes settings of a config, as several commands have it."""

import argparse

from mmengine.config import DictAction


def add_settings(parser: argparse.ArgumentParser, option: str = '--cfg-options') -> None:
    """Add it.

    Args:
        parser (argparse.ArgumentParser): Of the command.
        option (str): Its name. Defaults to ``'--cfg-options'``.
    """
    parser.add_argument(
        option,
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override; lists as KEY="[a,b]" without spaces',
    )
