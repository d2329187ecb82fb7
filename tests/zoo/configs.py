"""One config of each folder of MMDetection's configs, small enough to try on a laptop."""

import re
from collections.abc import Iterator
from pathlib import Path

import mmdet
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.config import Config, ConfigDict

MIM = Path(mmdet.__file__).parent / '.mim'

# Side of the images in pixels, and of those that a backbone's last map needs at least.
SIDE = 64
SIDES = {'HourglassNet': 128, 'SSDVGG': 300}

# Cheaper backbones first: the folder's method is what is tried, not its largest backbone. A
# cascade RPN alone cannot be built from its config: MMDetection asks it for a number of classes.
LARGE = re.compile(
    r'^cascade-rpn_r50|-ins_|swin-?[bl]|[-_]l[-_]|[-_]x[-_]|x101|r101|r2-101|s101|r152|h40|w40|hg104|b[2-9]'
)
SMALL = re.compile(r'r18|r50|tiny|swin-t|mbv2|mobile|s50|nano')


def one_per_folder() -> dict[str, Path]:
    """The cheapest config, by its name, of each folder that has one with a detector.

    Returns:
        dict[str, Path]: By the folder's name, in alphabetic order. Without ``_base_`` and without
        folders that hold data sets and schedules only, or a classifier (``reid``).
    """
    chosen = {}
    for folder in sorted(p for p in (MIM / 'configs').iterdir() if p.is_dir()):
        names = sorted(folder.glob('*.py'), key=_cost)
        found = next(
            (p for p in names if folder.name not in ('_base_', 'reid') and _has_detector(p)), None
        )
        if found is not None:
            chosen[folder.name] = found
    return chosen


def _cost(path: Path) -> tuple:
    name = path.stem
    return bool(LARGE.search(name)), not SMALL.search(name), len(name), name


def _has_detector(path: Path) -> bool:
    """Whether a config has a model; some cannot be read, since their bases are not installed."""
    try:
        return 'model' in Config.fromfile(path)
    except FileNotFoundError:
        return False


def small_model(path: Path) -> ConfigDict:
    """The detector of a config, without pretrained weights and with at most 50 layers of ResNet.

    Args:
        path (Path): A config of MMDetection. Relative paths of teachers in it start at
            :data:`MIM`, the directory to work in.

    Returns:
        ConfigDict: The ``model``; of a tracker or a semi-supervised model its ``detector``.
    """
    model = Config.fromfile(path).model
    if 'detector' in model:
        model = model.detector
        model.data_preprocessor = dict(
            type='mmdet.DetDataPreprocessor', pad_mask=True, pad_size_divisor=32
        )
    if model.get('as_two_stage'):
        model.num_queries = 50  # queries are chosen among the pixels of the small maps
    for part in _dicts(model):
        for key in ('init_cfg', 'pretrained', 'teacher_ckpt', 'batch_augments'):
            if part.get(key):
                part[key] = False if str(part.get('type')).endswith('TIMMBackbone') else None
        if part.get('type') in ('SyncBN', 'MMSyncBN'):
            part.type = 'BN'  # one process
        if part.get('eps') == 0:  # a batch norm that PyTorch refuses since 2.11
            del part['eps']
        if part.get('norm_eval'):  # random features would grow from layer to layer
            part.norm_eval = False
        if part.get('depth') in (101, 152):
            part.depth = 50
    return model


def image_shapes(model: ConfigDict) -> list[tuple[int, int, int]]:
    """Channels, height and width of the two images of :func:`small_batch`."""
    side = max(SIDES.get(part.get('type'), SIDE) for part in _dicts(model))
    return [(3, side, side)] * 2


def _dicts(node: object) -> Iterator[ConfigDict]:
    """Each dict inside of a config, and itself."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _dicts(child)


def small_batch(model: ConfigDict) -> dict:
    """Two synthetic images with boxes, masks, proposals and semantic maps that fit a model.

    A model of videos gets one video of two images.

    Args:
        model (ConfigDict): Of :func:`small_model`.

    Returns:
        dict: ``inputs`` and ``data_samples`` as a data loader gives them.
    """
    parts = list(_dicts(model))
    counts = [part.get(key) for part in parts for key in ('num_classes', 'num_things_classes')]
    classes = min((count for count in counts if isinstance(count, int)), default=80)
    shapes = image_shapes(model)
    if model.data_preprocessor.type.endswith('TrackDataPreprocessor'):
        return demo_track_inputs(1, 2, None, shapes[0], num_classes=classes, with_mask=True)
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
    )
    proposals = demo_mm_proposals(shapes, 50)
    for sample, boxes in zip(batch['data_samples'], proposals, strict=True):
        sample.gt_instances.labels %= classes
        if 'rpn_head' not in model:  # inference would take them in place of the head's own
            sample.proposals = boxes
    return batch
