"""Draw all tables and plots of a page from ledgers of finished runs.

    mcl-mm results evidence/*.jsonl --out docs/results.md

A ledger is written by `mcl-mm compare-transfer` and `mcl-mm compare-pretrain` with --ledger. On a page that
is there, what stands between two marked lines is drawn again and the rest stays. Plots come into a folder of
the page's name beside it. The same ledgers always give the same page.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'ledgers', nargs='+', type=Path, metavar='LEDGER', help='files of finished runs'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('results.md'), help='the page (default: results.md)'
    )


def run(args: argparse.Namespace) -> None:
    """Draw and write."""
    from mcl_mm.evaluation.results import write_results

    count = write_results(args.ledgers, args.out)
    print(f'{args.out}: {count} finished fine-tuning(s)')
