"""The command ``mcl-mm``. Each module of this package is one command; it parses and prints, no more.

A command's module has a docstring (its ``--help``), ``add_arguments(parser)`` and ``run(args)``.
"""

import argparse
import contextlib
import errno
import gc
import importlib
import io
import os
import shlex
import sys
import threading
from collections.abc import Sequence
from typing import Optional

from mcl_mm.parent import END_WITH_INPUT, end_with_input

# name: one line for ``mcl-mm --help``; the module is the name with underscores.
COMMANDS = {
    'quickstart': 'see it work: from a folder of images to a better detector, in minutes',
    'configs': 'list the recipes that come with the package, or print one to edit',
    'check-images': 'find images that cannot be used, before a run does',
    'pack': 'pack a folder of images into a few large files, for a disk that many share',
    'browse': 'draw what the network will see: the sheets of a montage',
    'train': 'pre-train, or fine-tune a detector',
    'plot': 'draw the curves of one or several runs',
    'export': 'write the weights of a run for detectors and other libraries',
    'embed': 'write embeddings of images, find near-duplicates, choose images to label',
    'cache-teacher': "write a teacher's embeddings of all images, so that runs need not compute them",
    'doctor': 'tell what a detector would load from weights, and what in its config spoils them',
    'adapt': 'write configs that pre-train and fine-tune a detector of your own',
    'test': 'evaluate a detector or a supervised model, draw its detections',
    'compare-transfer': 'fine-tune from several starts and compare: does pre-training help?',
    'compare-pretrain': 'pre-train by several methods and compare what a detector makes of each',
    'results': 'draw tables and plots of a ledger of finished runs',
    'subsets': 'draw small subsets of labels from annotations in COCO format',
    'rescale-labels': 'write labels in COCO format for image files of another size',
    'convert': "turn the authors' checkpoints, or RGB weights for N channels, into files for this package",
    'benchmark': 'time recipes in turns, and count what they compute',
}

# What the system's errors with a file leave to be asked.
ADVICE = {
    errno.ENOENT: 'Check the path, and from which folder it begins',
    errno.EISDIR: 'Give a file, not a folder',
    errno.ENOTDIR: 'Check the path: a part of it is a file, not a folder',
    errno.EEXIST: 'Give another name',
    errno.EACCES: 'You may not read or write it: change its permissions, or give another path',
    errno.ENAMETOOLONG: 'Give a shorter name',
}


def command_parser(
    name: str, parser: Optional[argparse.ArgumentParser] = None
) -> argparse.ArgumentParser:
    """The parser of one command.

    Args:
        name (str): One of ``COMMANDS``.
        parser (argparse.ArgumentParser, optional): To add the arguments to. Defaults to None, a new one.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # MMPretrain misses a library that nobody needs
        module = importlib.import_module(f'{__name__}.{name.replace("-", "_")}')
    gc.freeze()  # what is imported stays: to search it for garbage takes seconds, at the end once more
    parser = parser or argparse.ArgumentParser()
    parser.description = module.__doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=module.run)
    module.add_arguments(parser)
    return parser


def print_completion(shell: str) -> Optional[str]:
    """Print a shell's completion of all commands; returns what is wrong, if anything."""
    try:
        import shtab
    except ImportError:
        return 'completion needs shtab: pip install shtab'
    parser = argparse.ArgumentParser(prog='mcl-mm')
    commands = parser.add_subparsers()
    for name, text in COMMANDS.items():
        command_parser(name, commands.add_parser(name, help=text))
    print(shtab.complete(parser, shell))
    return None


def main(name: Optional[str] = None, argv: Optional[Sequence[str]] = None) -> None:
    """Run a command, and end with its exit code.

    Args:
        name (str, optional): One of ``COMMANDS``. Defaults to None: the first argument names it.
        argv (Sequence[str], optional): The arguments. Defaults to None, those of the process.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if os.environ.pop(END_WITH_INPUT, ''):
        threading.Thread(target=end_with_input, daemon=True).start()
    for stream in (sys.stdout, sys.stderr):  # names of files may be made of any bytes
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')
    if name is None:
        parser = argparse.ArgumentParser(
            prog='mcl-mm',
            description='Self-supervised pre-training of detectors.',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog='commands:\n'
            + '\n'.join(f'  {command:18}{text}' for command, text in COMMANDS.items()),
        )
        parser.add_argument('command', choices=COMMANDS, metavar='COMMAND')
        parser.add_argument(
            '--print-completion',
            choices=['bash', 'zsh', 'tcsh'],
            help='print code with which a shell completes commands and options; use it so: '
            'eval "$(mcl-mm --print-completion bash)"',
        )
        if argv[:1] == ['--print-completion']:
            sys.exit(print_completion(parser.parse_args([*argv, 'train']).print_completion))
        name = parser.parse_args(argv[:1]).command
        argv = argv[1:]
        parser = command_parser(name, argparse.ArgumentParser(prog=f'mcl-mm {name}'))
    else:
        parser = command_parser(name)
    try:
        args = parser.parse_args(argv)
    except ValueError as error:  # of Settings
        parser.error(f'settings are written key=value, lists as key="[a,b]" ({error})')
    args.command_line = shlex.join(['mcl-mm', name, *argv])
    try:
        code = args.run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {sentence(error)}')
    sys.exit(code)


def sentence(error: Exception) -> str:
    """What an error says; of the system's own ones also what to do."""
    filename = getattr(error, 'filename', None)
    if filename is None or error.errno not in ADVICE:
        return str(error)
    return f'{filename}: {error.strerror}. {ADVICE[error.errno]}'
