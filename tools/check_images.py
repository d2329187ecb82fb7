"""Find the images of a folder that cannot be used, before a training run meets them.

    python tools/check_images.py DIR
    python tools/check_images.py DIR --list good.txt      # then train on these:
    python tools/train.py CONFIG --cfg-options \\
        train_dataloader.dataset.data_root=DIR train_dataloader.dataset.ann_file=$PWD/good.txt

Every file is decoded to its end, by the rules of training, in several processes. The exit code is 0 if
all can be used, 1 if not, 130 if interrupted.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Optional

from rich.console import Console
from rich.progress import track

import mcl_mm  # noqa: F401  (checks the environment)
from mcl_mm.datasets import BadImageError, UnlabelledImages, read_image


def check_image(path: str) -> Optional[str]:
    """Why a file cannot be used; None if it can."""
    try:
        read_image(path)
    except BadImageError as error:
        return error.reason


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check(paths: list[str], workers: int) -> tuple[dict[str, str], int]:
    """Decode files in parallel, with a progress bar.

    Returns:
        tuple: Path to reason of those that cannot be used, in order, and how many were checked: fewer
        than all after an interrupt.
    """
    bad, count = {}, 0
    interrupted = threading.Event()

    def interrupt(*_) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)  # for one that does not want to wait

    # No KeyboardInterrupt: raised amid a callback of the pool or of the progress bar, it may get lost.
    before = signal.signal(signal.SIGINT, interrupt)
    pool = ProcessPoolExecutor(workers, initializer=ignore_interrupts)
    try:
        # After an interrupt, chunks that a worker has or is about to get are still waited for.
        chunk = max(1, min(64, len(paths) // (32 * workers)))
        reasons = pool.map(check_image, paths, chunksize=chunk)
        console = Console(file=sys.stderr)
        for reason in track(reasons, 'decoding', total=len(paths), console=console):
            if reason is not None:
                bad[paths[count]] = reason
            count += 1
            if interrupted.is_set():
                print('interrupted', file=sys.stderr)
                break
    finally:
        pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGINT, before)
    return bad, count


def write_lines(path: str, lines: list[str]) -> None:
    """Write names of files, whatever bytes they consist of."""
    with open(path, 'w', errors='surrogateescape') as file:
        file.writelines(f'{line}\n' for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dir', metavar='DIR', help='the data_root of a training run')
    parser.add_argument('--ann-file', default='', help='check the files that this list names only')
    parser.add_argument('--list', help='write the good images here, as ann_file takes them')
    parser.add_argument('--out', help='write the bad images here: path, tab, reason')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='default: all cores')
    args = parser.parse_args()
    try:
        if args.workers < 1:
            raise ValueError(f'--workers must be at least 1, got {args.workers}')
        for path in filter(None, (args.list, args.out)):  # not after hours
            folder = os.path.dirname(os.path.abspath(path))
            if not os.access(folder, os.W_OK):
                raise FileNotFoundError(f'no folder to write to at {folder}')
        ann_file = args.ann_file and os.path.abspath(args.ann_file)
        dataset = UnlabelledImages(args.dir, ann_file=ann_file, pipeline=[], lazy_init=True)
        paths = [str(info['img_path']) for info in dataset.find_images()]
        print(f'{len(paths)} images in {args.dir}', flush=True)
        start = time.time()
        bad, count = check(paths, args.workers)
        seconds = time.time() - start
        if args.out:
            write_lines(args.out, [f'{path}\t{reason}' for path, reason in bad.items()])
        if args.list and count == len(paths):
            good = [path for path in paths if path not in bad]
            write_lines(args.list, [os.path.relpath(path, args.dir) for path in good])
    except BrokenProcessPool:
        sys.exit('OSError: a worker was killed, probably for want of memory: try fewer --workers')
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')

    for path, reason in bad.items() if not args.out else ():
        print(f'{path}\t{reason}')
    kinds = Counter(reason.split(':')[0] for reason in bad.values())
    for kind, number in kinds.most_common():
        print(f'{number:9} {kind}')
    print(
        f'{len(bad)} of {count} images cannot be used ({len(bad) / max(count, 1):.2%}), '
        f'{count / seconds:.0f} images/s'
    )
    if count < len(paths):
        print(f'{len(paths) - count} not checked' + (', no list written' if args.list else ''))
        sys.exit(130)
    sys.exit(1 if bad else 0)


if __name__ == '__main__':
    main()
