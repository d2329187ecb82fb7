"""Two small synthetic images with the annotations that a detector of MMDetection learns from."""

import re

import numpy as np
from mmdet.datasets.transforms import LinesToArray, PackLineDetectionInputs
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate

from configs import WORDS, dicts_of

# Side of the images in pixels; and where a backbone's last map, or a choice among anchors, needs more.
SIDE = 64
SIDES = {'HourglassNet': 128, 'LAD': 128, 'SSDVGG': 300}


def small_batch(model: ConfigDict) -> dict:
    """Two images with boxes, masks, proposals and semantic maps, or with lanes, that fit a model.

    A model of videos gets one video of two images.

    Args:
        model (ConfigDict): Of :func:`configs.small_model`.

    Returns:
        dict: ``inputs`` and ``data_samples`` as a data loader gives them.
    """
    parts = list(dicts_of(model))
    classes = _number_of_classes(parts)
    shapes = image_shapes(model)
    if model.data_preprocessor.type.endswith('TrackDataPreprocessor'):
        return demo_track_inputs(1, 2, None, shapes[0], num_classes=classes, with_mask=True)
    if model.type == 'CLRNet':
        return pseudo_collate([lanes(seed) for seed in (0, 1)])
    # Hybrid task cascades read semantic maps at the stride of their features.
    fused = any('semantic_head' in part.get('roi_head', {}) for part in parts)
    batch = demo_mm_inputs(
        len(shapes),
        shapes,
        num_items=[3, 5],
        num_classes=min(max(2, classes), 255),  # the semantic maps are of uint8
        sem_seg_output_strides=8 if fused else 1,
        # RTMDet's assigner reads masks, where there are any, as tensors
        with_mask=re.search('[Mm]ask|SOLO|Inst|YOLACT', str(model)) is not None,
        with_semantic=True,
        texts=[WORDS] * len(shapes) if 'language_model' in model else None,
        custom_entities=True,  # the words are the classes, nothing is to be found in a sentence
    )
    proposals = demo_mm_proposals(shapes, 50)
    for sample, boxes in zip(batch['data_samples'], proposals, strict=True):
        sample.gt_instances.labels %= classes
        if 'rpn_head' not in model:  # inference would take them in place of the head's own
            sample.proposals = boxes
    return batch


def _number_of_classes(parts: list[ConfigDict]) -> int:
    """The smallest that a part of the model is built for."""
    counts = [part.get(key) for part in parts for key in ('num_classes', 'num_things_classes')]
    if any('language_model' in part for part in parts):
        counts.append(len(WORDS))
    return min((count for count in counts if isinstance(count, int)), default=80)


def image_shapes(model: ConfigDict) -> list[tuple[int, int, int]]:
    """Channels, height and width of the two images of :func:`small_batch`."""
    side = max(SIDES.get(part.get('type'), SIDE) for part in dicts_of(model))
    return [(3, side, side)] * 2


def lanes(seed: int) -> dict:
    """An image of 800 x 320 pixels, for which CLRNet's head is built, with three straight lanes."""
    rng = np.random.default_rng(seed)
    ends = [((150, 300), (350, 60)), ((400, 310), (400, 80)), ((700, 290), (450, 50))]
    lines = [[tuple(a + (b - a) * t) for t in np.linspace(0, 1, 20)] for a, b in np.array(ends)]
    results = dict(
        img=rng.integers(0, 255, (320, 800, 3), np.uint8),
        gt_seg_map=rng.integers(0, 5, (320, 800), np.uint8),
        lines=lines,
        org_lines=lines,
        org_height=320,
        org_width=800,
    )
    return PackLineDetectionInputs().transform(LinesToArray().transform(results))
