"""The numbers of docs/shared_disks.md and of the decoders in docs/performance.md.

    python tests/measure_loading.py decoders PHOTOS
    python tests/measure_loading.py storage PHOTOS

PHOTOS is a folder of photographs. The first command compares decoders on JPEGs of two sizes: decoding
alone, then decoding and cutting the eight views of the fast recipe. The second reads PHOTOS as loose
files, as shards and as a table (where ``datasets`` is installed). All take turns on one core. Prints the
median of the rounds and their range, and the ratio to the first of each table, round by round.
"""

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from mcl_mm.datasets import NativeViews, UnlabelledImages
from mcl_mm.datasets.loading import to_rgb
from mcl_mm.datasets.pack import pack
from mcl_mm.datasets.storage import read_bytes

MIN_SIDE = 580  # of the fast recipe
SIZES = ((500, 375), (1600, 1200))
ROUNDS, IMAGES = 5, 8


def mosaic(photos: list[Path], size: tuple[int, int], seed: int) -> bytes:
    """A JPEG of a size, made of photographs that are not enlarged: their detail is that of a camera."""
    rng, side = np.random.default_rng(seed), 250
    canvas = Image.new('RGB', size)
    for x in range(0, size[0], side):
        for y in range(0, size[1], side):
            with Image.open(photos[rng.integers(len(photos))]) as photo:
                canvas.paste(photo.convert('RGB').crop((0, 0, side, side)), (x, y))
    file = BytesIO()
    canvas.save(file, 'JPEG', quality=92)
    return file.getvalue()


def pillow(data: bytes) -> np.ndarray:
    """The loader's decoder; a JPEG that is large enough at 1/2, 1/4 or 1/8 of its size."""
    with Image.open(BytesIO(data)) as image:
        image.draft(None, (MIN_SIDE, MIN_SIDE))
        return np.asarray(to_rgb(image))


def pillow_whole(data: bytes) -> np.ndarray:
    """The same at full size."""
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert('RGB'))


def opencv(data: bytes) -> np.ndarray:
    """OpenCV, at full size."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def opencv_reduced(data: bytes) -> np.ndarray:
    """OpenCV at the size that the loader would take."""
    with Image.open(BytesIO(data)) as image:
        shrink = max(s for s in (1, 2, 4, 8) if s == 1 or min(image.size) >= s * MIN_SIDE)
    flags = {1: cv2.IMREAD_COLOR_BGR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    flag = flags.get(shrink, cv2.IMREAD_REDUCED_COLOR_8)
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), flag), cv2.COLOR_BGR2RGB)


def torchvision(data: bytes) -> np.ndarray:
    """torchvision.io, which has full size only."""
    pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).numpy()


DECODERS = (pillow, opencv_reduced, pillow_whole, opencv, torchvision)


def take_turns(tasks: dict[str, Callable], items: Sequence) -> None:
    """Do tasks with all items in turn, and print their images a second."""
    rates = {name: [] for name in tasks}
    for _ in range(ROUNDS + 1):
        for name, task in tasks.items():
            start = time.process_time()
            for item in items:
                task(item)
            rates[name].append(len(items) / (time.process_time() - start))
    first = np.array(next(iter(rates.values()))[1:])  # the first round warms up
    print('\n| | images/s a core | ratio |\n| --- | --- | --- |')
    for name, found in rates.items():
        found = np.array(found[1:])
        print(f'| {name} | {spread(found, ".0f")} | {spread(found / first, ".2f")} |')


def spread(values: np.ndarray, form: str) -> str:
    """Median and range."""
    middle, low, high = (format(f(values), form) for f in (np.median, np.min, np.max))
    return f'{middle} ({low} to {high})'


def measure_decoders(folder: Path) -> None:
    """Compare decoders, and their pixels with those of Pillow at the same size."""
    photos, cut = sorted(folder.rglob('*.jpg')), NativeViews()
    for size in SIZES:
        files = [mosaic(photos, size, seed) for seed in range(IMAGES)]
        print(f'\n{size[0]} x {size[1]}, {np.mean([len(f) for f in files]) / 1000:.0f} kB a file')
        for decode in DECODERS[1:]:
            like = pillow if decode is opencv_reduced else pillow_whole
            pairs = [(decode(f).astype(int), like(f).astype(int)) for f in files]
            apart = [np.abs(a - b) for a, b in pairs]
            print(
                f'{decode.__name__} from {like.__name__}: at most {max(d.max() for d in apart)}, '
                f'mean {np.mean([d.mean() for d in apart]):.4f} of 255'
            )
        print(
            f'half a file is refused by: {", ".join(d.__name__ for d in DECODERS if refuses(d, files[0]))}'
        )
        take_turns({decode.__name__: decode for decode in DECODERS}, files)
        take_turns(
            {f'{d.__name__}, 8 views': functools.partial(views, cut, d) for d in DECODERS}, files
        )


def refuses(decode: Callable, data: bytes) -> bool:
    """Whether a decoder notices that a file ends too early."""
    try:
        return decode(data[: len(data) // 2]) is None
    except Exception:  # whatever each of them raises
        return True


def views(cut: NativeViews, decode: Callable, data: bytes) -> dict:
    """Decode and crop."""
    return cut(dict(img=np.ascontiguousarray(decode(data))))


def measure_storage(folder: Path) -> None:
    """Compare loose files, shards and a table: bytes alone, then bytes, pixels and views."""
    with tempfile.TemporaryDirectory() as place:
        pack(str(folder), f'{place}/shards', 20 * 10**6)
        places = {'loose files': str(folder), 'shards': f'{place}/shards'}
        try:
            import datasets

            os.mkdir(f'{place}/table')
            paths = [info['img_path'] for info in UnlabelledImages(str(folder)).load_data_list()]
            rows = [dict(bytes=read_bytes(path), path=os.path.basename(path)) for path in paths]
            features = datasets.Features(image=datasets.Image())
            table = datasets.Dataset.from_dict(dict(image=rows), features=features)
            table.save_to_disk(f'{place}/table', max_shard_size='20MB')
            places['table of datasets'] = f'{place}/table'
        except ImportError:
            print('without datasets: no table')
        pipeline = [
            dict(type='mcl_mm.LoadAnyImage', min_side=MIN_SIDE),
            dict(type='mcl_mm.NativeViews'),
        ]
        sets = {name: UnlabelledImages(root, pipeline=pipeline) for name, root in places.items()}
        count = len(sets['loose files'])
        order = np.random.default_rng(0).permutation(count).tolist()
        take_turns(
            {f'{name}, bytes': functools.partial(read, d) for name, d in sets.items()}, order
        )
        take_turns({f'{name}, views': d.__getitem__ for name, d in sets.items()}, order[:100])


def read(dataset: UnlabelledImages, index: int) -> bytes:
    """The file of an image, as the loader gets it."""
    return read_bytes(dataset.get_data_info(index)['img_path'])


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=['decoders', 'storage'])
    parser.add_argument('photos', type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    (measure_decoders if args.what == 'decoders' else measure_storage)(args.photos)
