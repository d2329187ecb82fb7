"""One config of each folder of MMDetection's configs, small enough to try on a laptop."""

import re
from collections.abc import Iterator
from pathlib import Path

import mmdet
from mmengine.config import Config, ConfigDict

MIM = Path(mmdet.__file__).parent / '.mim'

# The classes of detectors that are told them in words.
WORDS = ('cat', 'dog', 'bird', 'car')

# At most so many proposals of an image, and regions of it that a head learns from.
REGIONS = 64

# Cheaper backbones first: the folder's method is what is tried, not its largest backbone. A
# cascade RPN alone cannot be built from its config: MMDetection asks it for a number of classes.
# GLIP's configs of pre-training are for inference only, they name no loss of boxes.
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
    return '_pretrain_' in name, bool(LARGE.search(name)), not SMALL.search(name), len(name), name


def _has_detector(path: Path) -> bool:
    """Whether a config has a model; some cannot be read, since their bases are not installed."""
    try:
        return 'model' in Config.fromfile(path)
    except FileNotFoundError:
        return False


def small_model(path: Path, bert: Path) -> ConfigDict:
    """The detector of a config, without pretrained weights, of few regions, layers and queries.

    Args:
        path (Path): A config of MMDetection. Relative paths of teachers in it start at
            :data:`MIM`, the directory to work in.
        bert (Path): An empty folder, for the language model of detectors that have one.

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
    if 'language_model' in model:
        write_bert(bert)
        model.language_model.name = str(bert)
    for part in dicts_of(model):
        if 'lang_model_name' in part:
            part.lang_model_name = str(bert)
        # samplers, and what is kept of proposals; without NMS it is the number of queries
        for key in ('num', 'max_per_img') if 'max_per_img' not in part or 'nms' in part else ():
            if isinstance(part.get(key), int):
                part[key] = min(part[key], REGIONS)
        for key in ('init_cfg', 'pretrained', 'teacher_ckpt', 'batch_augments'):
            if part.get(key):
                part[key] = False if str(part.get('type')).endswith('TIMMBackbone') else None
        if part.get('type') in ('SyncBN', 'MMSyncBN'):
            part.type = 'BN'  # one process
        if part.get('eps') == 0:  # a batch norm that PyTorch refuses since 2.11
            del part['eps']
        if 'score_thr' in part:  # untrained scores are low, and what is too low meets no NMS
            part.score_thr = 0.0
        if part.get('norm_eval'):  # random features would grow from layer to layer
            part.norm_eval = False
        if part.get('depth') in (101, 152):
            part.depth = 50
    return model


def dicts_of(node: object) -> Iterator[ConfigDict]:
    """Each dict inside of a config, and the config itself."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from dicts_of(child)


def write_bert(folder: Path) -> None:
    """A BERT of one layer with random weights, as wide as the one that the detectors ask for.

    Args:
        folder (Path): Gets the files that transformers loads a language model from.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """
    from transformers import BertConfig, BertModel

    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *WORDS]
    (folder / 'vocab.txt').write_text('\n'.join(words))
    config = BertConfig(len(words), num_hidden_layers=1, intermediate_size=64)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
