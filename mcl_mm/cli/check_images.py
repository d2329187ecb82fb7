r"""Find the images of a folder that cannot be used, before a training run meets them.

    mcl-mm check-images DIR
    mcl-mm check-images DIR --list good.txt      # then train on these:
    mcl-mm train CONFIG --cfg-options \
        train_dataloader.dataset.data_root=DIR train_dataloader.dataset.ann_file=$PWD/good.txt

    mcl-mm check-images DIR --channels 4 --list good.txt          # no photographs: docs/channels.md

The command decodes every file to its end, by the rules of training, in several processes. It measures images
of more than 8 bits a sample. good.txt.value_range.json then says which values are black and white, and
training on good.txt uses it. With --channels it also measures mean and deviation of each channel.

Exit code: 0 all images can be used, 1 some cannot, 130 interrupted.
"""

import argparse
import os
from collections import Counter

import mcl_mm  # noqa: F401  (checks the environment)
from mcl_mm.datasets.check import Report, check, find, write_bad, write_good
from mcl_mm.datasets.depth import PERCENTILES
from mcl_mm.datasets.scan import describe_passed_over
from mcl_mm.datasets.survey import MEANING
from mcl_mm.files import check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``check-images``."""
    parser.add_argument('dir', metavar='DIR', help='the data_root of a training run')
    parser.add_argument('--ann-file', default='', help='check only the files in this list')
    parser.add_argument('--folders', nargs='+', default=[], help='search these folders of DIR only')
    parser.add_argument(
        '--channels', type=int, metavar='N', help='images of N channels, TIFF and .npy too'
    )
    parser.add_argument('--list', help='write the good images here: a list for ann_file')
    parser.add_argument('--out', help='write the bad images here: path, tab, reason')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes (default: all cores)'
    )


def run(args: argparse.Namespace) -> int:
    """Check, print and write; returns the exit code."""
    if args.workers < 1:
        raise ValueError(f'--workers must be at least 1, got {args.workers}')
    outputs = [check_output(path) for path in (args.list, args.out) if path]  # not after hours
    for folder in map(os.path.dirname, outputs):
        if not os.path.isdir(folder):
            raise FileNotFoundError(f'no folder to write to at {folder}')
    if len(outputs) > len(set(outputs)):
        raise ValueError(f'--list and --out are both {args.out}: give each a file of its own')
    images = find(args.dir, args.ann_file, args.channels, args.folders)
    print(f'{len(images.paths)} images in {args.dir}', flush=True)
    if images.passed_over:
        print(f'passed over: {describe_passed_over(images.passed_over)}', flush=True)
    report = check(images.paths, args.workers, args.channels)
    if args.out:
        write_bad(args.out, report)
    whole = report.checked == len(images.paths)
    written = write_good(args.list, images, report) if args.list and whole else []
    for path, reason in report.bad.items() if not args.out else ():
        print(f'{path}\t{reason}')
    print_report(report, written)
    if not whole:
        left = len(images.paths) - report.checked
        print(f'{left} not checked' + (', no list written' if args.list else ''))
        return 130
    return 1 if report.bad else 0


def print_report(report: Report, written: list[str]) -> None:
    """Print counts, and what a user should know of the images that can be used."""
    kinds = Counter(reason.split(':')[0] for reason in report.bad.values())
    for kind, number in kinds.most_common():
        print(f'{number:9} {kind}')
    print(
        f'{len(report.bad)} of {report.checked} images cannot be used '
        f'({len(report.bad) / max(report.checked, 1):.2%}), '
        f'{report.checked / report.seconds:.0f} images/s'
    )
    for what, number in report.left_out.items():
        print(f'{number:9} have {what}: these are left out')
    for seen, number in report.tones.items():
        print(f'{number:9} are {seen}: {MEANING[seen]}')
    if report.mean:
        print(channel_lines(report, written))
    elif report.value_range is not None:
        low, high = report.value_range
        print(
            f'{report.deep:9} have more than 8 bits. Value range, from {PERCENTILES[0]} to '
            f'{PERCENTILES[1]} percent of the values of {report.measured}: [{low:g}, {high:g}]. '
            + (
                f'Training on {written[0]} reads it from {written[1]}'
                if written
                else f'Train with train_dataloader.dataset.value_range=[{low:g},{high:g}]'
            )
        )


def channel_lines(report: Report, written: list[str]) -> str:
    """What was measured of each channel, as lines of a config, and who reads it."""
    lines = [f'channels = {len(report.mean)}']
    if report.value_range is not None:
        ranges = [[float(f'{x:.9g}') for x in pair] for pair in report.value_range]
        lines.append(f'train_dataloader = dict(dataset=dict(value_range={ranges}))')
    pixels = f'dict(mean={report.mean}, std={report.std})'
    lines.append(f'model = dict(data_preprocessor={pixels})')
    if report.flat:
        lines.append(f'# channels that hold one value: {", ".join(map(str, report.flat))}')
    told = f'Values of {report.measured} images, {PERCENTILES[0]} to {PERCENTILES[1]} percent. '
    if written:
        told += f'Training on {written[0]} reads them from {written[1]}. As lines of a config:'
    else:
        told += 'As lines of a config that begins with the _base_ of a recipe:'
    return '\n'.join([told, *lines])
