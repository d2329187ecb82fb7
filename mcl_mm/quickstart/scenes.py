"""Draw a small detection data set: textured objects over textured backgrounds.

    python -m mcl_mm.quickstart.scenes OUT [--train 80] [--val 120] [--unlabelled 3000] [--seed 0]

writes ``OUT/unlabelled/*.jpg``, ``OUT/train/*.jpg``, ``OUT/val/*.jpg`` and COCO instance files
``OUT/annotations/{train,val}.json``. The same arguments draw the same scenes on every machine.

A class is an outline filled with its own texture. Brightness, size and angle say nothing about it,
backgrounds are made of the same textures, and all scenes share their colours: to tell them apart a
network has to look at what is in them.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
from pycocotools import mask as coco_mask

SIDE = 128  # of a scene, pixels
CLASSES = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')


def outline(name: str, radius: float) -> list[np.ndarray]:
    """Polygons (``(n, 2)``, centred on 0) whose even-odd filling is the shape ``name``."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    if name == 'disc':
        polygons = [circle]
    elif name == 'ring':
        polygons = [circle, 0.5 * circle]
    elif name == 'square':
        polygons = [circle[6::12] * 1.2]
    elif name == 'triangle':
        polygons = [circle[::16] * 1.25]
    elif name == 'star':
        reach = np.where(np.arange(10) % 2, 0.45, 1.2)[:, None]
        angle = np.arange(10) * np.pi / 5
        polygons = [reach * np.stack([np.cos(angle), np.sin(angle)], 1)]
    else:  # cross
        a, b = 0.38, 1.1
        corners = [(a, b), (a, a), (b, a), (b, -a), (a, -a), (a, -b)]
        corners += [(-x, -y) for x, y in corners]
        polygons = [np.array(corners)]
    return [radius * polygon for polygon in polygons]


def texture(rng: np.random.Generator, kind: int, period: float) -> np.ndarray:
    """A pattern over the whole scene, float32 in [0, 1], ``(SIDE, SIDE)``."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) * (2 * np.pi / period)
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == 0:  # stripes
        pattern = np.sin(u)
    elif kind == 1:  # checks
        pattern = np.sign(np.sin(u) * np.sin(v))
    elif kind == 2:  # dots
        pattern = np.cos(u) + np.cos(v) - 0.8
    elif kind == 3:  # waves
        pattern = np.sin(u + 1.5 * np.sin(v / 2))
    elif kind == 4:  # grain
        noise = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
        pattern = cv2.GaussianBlur(noise, (0, 0), period / 6)
        pattern /= pattern.std()
    else:  # lines
        pattern = np.where(np.mod(u, 2 * np.pi) < 1.6, 1.0, -1.0)
    return np.clip(0.5 + 0.5 * pattern, 0, 1).astype(np.float32)


def paint(rng: np.random.Generator, pattern: np.ndarray, contrast: float) -> np.ndarray:
    """Two tinted grays, mixed by a pattern and lit unevenly: float32 ``(SIDE, SIDE, 3)``.

    Args:
        rng (np.random.Generator): Chooses the grays.
        pattern (np.ndarray): In [0, 1], ``(SIDE, SIDE)``.
        contrast (float): Difference of the grays.
    """
    low = rng.uniform(0, 1 - contrast)
    grays = np.array([low, low + contrast])[:, None] + rng.uniform(-0.08, 0.08, (2, 3))
    first, second = rng.permutation(grays).astype(np.float32)
    light = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.7, 1), SIDE, dtype=np.float32)
    light = light[:, None, None] if rng.random() < 0.5 else light[None, :, None]
    return (first + (second - first) * pattern[..., None]) * light


def draw_scene(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One scene.

    Returns:
        tuple: The image, uint8 BGR ``(SIDE, SIDE, 3)``, and per object its class and the mask of
        what can be seen of it, uint8 ``(SIDE, SIDE)``.
    """
    image = paint(rng, texture(rng, rng.integers(6), rng.uniform(24, 64)), rng.uniform(0.1, 0.3))
    objects = []
    for _ in range(rng.integers(2, 6)):
        label = int(rng.integers(len(CLASSES)))
        radius = float(np.exp(rng.uniform(np.log(9), np.log(34))))
        centre, angle = rng.uniform(8, SIDE - 8, 2), rng.uniform(0, 2 * np.pi)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        squeeze = np.array([1, rng.uniform(0.75, 1)])
        polygons = [
            np.rint((p * squeeze) @ rotation.T + centre).astype(np.int32)
            for p in outline(CLASSES[label], radius)
        ]
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(mask, polygons, 1)
        pattern = texture(rng, label, rng.uniform(0.35, 0.7) * max(radius, 10))
        fill = paint(rng, pattern, rng.uniform(0.5, 0.9))
        image = np.where(mask[..., None] > 0, fill, image)
        objects = [(seen, m & ~mask & 1) for seen, m in objects] + [(label, mask)]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    image = image + rng.normal(0, 0.02, image.shape)
    image = (image.clip(0, 1) * 255).astype(np.uint8)
    return image, [(label, mask) for label, mask in objects if mask.sum() >= 48]


def draw_file(folder: Path, index: int, rng: np.random.Generator) -> list[dict]:
    """Draw scene ``index`` into ``folder``; returns its objects in COCO's format, without their ids."""
    image, objects = draw_scene(rng)
    cv2.imwrite(str(folder / file_name(index)), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    annotations = []
    for label, mask in objects:
        rle = coco_mask.encode(np.asfortranarray(mask))
        annotations.append(
            dict(
                image_id=index,
                category_id=label,
                bbox=coco_mask.toBbox(rle).tolist(),
                area=float(mask.sum()),
                iscrowd=0,
                segmentation=dict(size=rle['size'], counts=rle['counts'].decode()),
            )
        )
    return annotations


def file_name(index: int) -> str:
    """Of a scene."""
    return f'{index:05d}.jpg'


def draw_split(out: Path, name: str, count: int, seed: tuple[int, ...]) -> Iterator[int]:
    """Draw ``count`` scenes into ``out/name``, and their annotations unless unlabelled.

    The scenes of a split share one stream of random numbers. They are a yardstick: change it, and no number
    that was measured before can be compared.

    Yields:
        int: How many are done.
    """
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    annotations = []
    for index in range(count):
        annotations += draw_file(folder, index, rng)
        yield index + 1
    if name != 'unlabelled':
        coco = dict(
            images=[
                dict(id=index, file_name=file_name(index), height=SIDE, width=SIDE)
                for index in range(count)
            ],
            annotations=[dict(a, id=number) for number, a in enumerate(annotations, 1)],
            categories=[dict(id=label, name=c) for label, c in enumerate(CLASSES)],
        )
        (out / 'annotations').mkdir(exist_ok=True)
        (out / f'annotations/{name}.json').write_text(json.dumps(coco))


def draw_data_set(
    out: Path, unlabelled: int = 3000, train: int = 80, val: int = 120, seed: int = 0
) -> Iterator[float]:
    """Draw the three splits.

    Args:
        out (Path): The folder of the data set.
        unlabelled (int): Scenes to pre-train on. Defaults to 3000.
        train (int): Labelled scenes to fine-tune on. Defaults to 80.
        val (int): Labelled scenes to evaluate on. Defaults to 120.
        seed (int): Another one draws other scenes. Defaults to 0.

    Yields:
        float: The share that is done, in (0, 1].
    """
    counts = dict(unlabelled=unlabelled, train=train, val=val)
    before = 0
    for index, (name, count) in enumerate(counts.items()):
        if count:
            for done in draw_split(out, name, count, (seed, index)):
                yield (before + done) / sum(counts.values())
        before += count


def main(argv: Optional[list[str]] = None) -> None:
    """The command of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path)
    parser.add_argument('--train', type=int, default=80)
    parser.add_argument('--val', type=int, default=120)
    parser.add_argument('--unlabelled', type=int, default=3000)
    parser.add_argument('--seed', type=int, default=0)
    args = vars(parser.parse_args(argv))
    for _ in draw_data_set(**args):
        pass
    print(f'drawn: {args["out"]}')


if __name__ == '__main__':
    main()
