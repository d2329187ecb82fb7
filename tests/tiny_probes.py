"""Pictures of three colours, which a probe can tell apart, and what runs a probe."""

import json
import logging

import numpy as np
from PIL import Image

from mcl_mm.evaluation import DenseProbe

COLOURS = dict(red=(220, 30, 30), green=(30, 200, 40), blue=(30, 40, 230))


def noisy(size, colour, rng):
    return np.clip(np.array(colour) + rng.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)


def draw_colour_folders(folder):
    """Three folders of images, a colour each."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / 'classes' / name).mkdir(parents=True)
        for i in range(5):
            image = Image.fromarray(noisy((50 + i, 60), colour, rng))
            image.save(folder / 'classes' / name / f'{i}.png')
    return folder / 'classes'


def draw_colour_boxes(folder):
    """A COCO set of ten images, each with a box of every colour; category ids with gaps."""
    rng = np.random.default_rng(0)
    coco = dict(images=[], annotations=[], categories=[])
    for label, name in enumerate(COLOURS):
        coco['categories'].append(dict(id=10 * label + 7, name=name))
    (folder / 'coco/images').mkdir(parents=True)
    for i in range(10):
        image = noisy((128, 160), (128, 128, 128), rng)
        for slot, label in enumerate(rng.permutation(3).tolist()):
            x, y, w, h = 4 + 52 * slot, int(rng.integers(4, 60)), 40, int(rng.integers(30, 60))
            image[y : y + h, x : x + w] = noisy((h, w), list(COLOURS.values())[label], rng)
            coco['annotations'].append(
                dict(id=len(coco['annotations']) + 1, image_id=i + 1, bbox=[x, y, w, h],
                     category_id=10 * label + 7, area=w * h, iscrowd=0)
            )  # fmt: skip
        Image.fromarray(image).save(folder / f'coco/images/{i}.png')
        coco['images'].append(dict(id=i + 1, file_name=f'{i}.png', width=160, height=128))
    (folder / 'coco/boxes.json').write_text(json.dumps(coco))
    return folder / 'coco'


def dense_probe(folder, **kwargs):
    return DenseProbe(
        str(folder), 'boxes.json', 'images', scale=(160, 128), num_workers=0, **kwargs
    )


class FakeRunner:
    """What a probe needs of a runner outside training."""

    def __init__(self, model):
        self.model = model
        self.logged = []
        self.logger = logging.getLogger('probe')
        self.visualizer = self
        self.iter = 0

    def add_scalars(self, scalars, step):
        self.logged.append((step, scalars))
