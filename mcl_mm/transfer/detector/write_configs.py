"""The two configs of ``adapt`` as files: on which recipe, with which words, where."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

import mcl_mm
from mcl_mm.config import find_config
from mcl_mm.transfer.checkpoint import read_checkpoint

from .adapt import Adapted, adapt, carried, check_fit, images_of, relative, write
from .child_config import Change, ChildConfig
from .load_report import LoadReport
from .rates import rate_changes
from .settings import base_of, load_detector

ROOT = Path(mcl_mm.__file__).parents[1]
# Up to how many images the recipe for small sets is meant; docs/small_sets.md.
SMALL_SET = 50_000


class Recipe(NamedTuple):
    """A pre-training recipe, and the images it is for.

    Attributes:
        path (Path): Its config.
        images (str, optional): Their folder.
        count (int): How many there are; 0 if not known.
    """

    path: Path
    images: Optional[str]
    count: int


def choose_recipe(
    recipe: Optional[str], images: Optional[str], channels: Optional[int] = None
) -> Recipe:
    """The recipe that a user names, or that fits the number of images.

    Args:
        recipe (str, optional): See :func:`~mcl_mm.config.find_config`.
        images (str, optional): A folder of images.
        channels (int, optional): Of images that are no photographs: a recipe with native views is chosen.
            Defaults to None.

    Raises:
        OSError, ValueError: There is no such recipe, or no image in the folder.
    """
    count = 0
    if images:
        with DefaultScope.overwrite_default_scope('mcl_mm'):
            data = dict(type='mcl_mm.UnlabelledImages', data_root=images, pipeline=[])
            count = len(DATASETS.build(dict(data, channels=channels)))
    if recipe is None:
        large = 'mcl_r50_100e_fast' if channels else 'mcl_r50_100e'
        recipe = 'mcl_r50_small' if 0 < count <= SMALL_SET else large
    return Recipe(Path(find_config(recipe)).resolve(), images, count)


def write_configs(
    config: str,
    weights: Optional[str] = None,
    out_dir: Optional[str] = None,
    recipe: Optional[str] = None,
    images: Optional[str] = None,
    pretrained_lr: Optional[float] = None,
    lr_decay: Optional[float] = None,
) -> str:
    """Write ``NAME_finetune.py`` and, where it can be pre-trained, ``NAME_pretrain.py``.

    Args:
        config (str): Config of a detector: a path, or a name, see :func:`~mcl_mm.config.find_config`.
        weights (str, optional): File of weights to start from. Defaults to None: still to be made.
        out_dir (str, optional): Where to write. Defaults to None: beside the config, for a name here.
        recipe (str, optional): See :func:`choose_recipe`.
        images (str, optional): See :func:`choose_recipe`.
        pretrained_lr (float, optional): See :func:`~mcl_mm.transfer.detector.rates.rate_changes`.
        lr_decay (float, optional): See there.

    Returns:
        str: What was written and why, for the terminal.

    Raises:
        OSError, ValueError: A file cannot be read or written, or weights do not fit; nothing is written
            that would load a part of them.
    """
    base = base_of(config)
    name = Path(config).stem
    folder = Path(out_dir or (Path(config).parent if os.path.isfile(config) else '.'))
    checkpoint = read_checkpoint(weights) if weights else None
    chosen = choose_recipe(recipe, images, channels_for(base, checkpoint))
    export = weights or f'{name}_mcl.pth'
    adapted = adapt(base, str(chosen.path), export, checkpoint)
    said, (report, failure) = [], fit_of(adapted, checkpoint)
    if not failure:  # what is refused here is refused before anything is written
        adapted = with_rates(adapted, report, pretrained_lr, lr_decay)
    pretrain = folder / f'{name}_pretrain.py'
    if adapted.pretrain:
        said.append(write_pretrain(pretrain, adapted.pretrain, chosen, name))
    else:
        said.append(f'No config for pre-training: {adapted.why_not}.')
    if failure:
        hint = f'\n{pretrain} pre-trains this detector itself' * pretrain.exists()
        raise ValueError(f'{weights} does not fit {name}: {failure}{hint}') from failure
    if checkpoint:
        said.append(f'What {weights} fills of the detector, in tensors:\n{report.table()}\n')
    carries = carried(adapted.finetune.load(), checkpoint and set(checkpoint['state_dict']))
    said.append(write_finetune(folder, adapted, name, carries, export, weights))
    return '\n'.join(said)


def channels_for(base: str, checkpoint: Optional[dict]) -> Optional[int]:
    """Channels that the weights were trained on, else those that the detector takes; None for RGB."""
    recorded = ((checkpoint or {}).get('meta') or {}).get('input')
    if not isinstance(recorded, dict) or not recorded.get('channels'):
        recorded = images_of(load_detector(base))
    return recorded.get('channels')


def fit_of(
    adapted: Adapted, checkpoint: Optional[dict]
) -> tuple[Optional[LoadReport], Optional[ValueError]]:
    """What the detector takes of the weights, or of those still to be made; or why it takes none."""
    if checkpoint is None:
        return adapted.filled, None
    try:
        path = checkpoint['path']
        return check_fit(adapted.finetune.load(), checkpoint['state_dict'], path), None
    except ValueError as error:
        return None, error


def with_rates(
    adapted: Adapted, report: LoadReport, pretrained_lr: Optional[float], lr_decay: Optional[float]
) -> Adapted:
    """The same with rates by part and layer; see :func:`~mcl_mm.transfer.detector.rates.rate_changes`."""
    finetune = adapted.finetune
    rates = rate_changes(finetune.load(), set(report.loaded), pretrained_lr, lr_decay)
    changed = finetune._replace(changes=[*finetune.changes, *rates])
    return adapted._replace(finetune=changed)


def write_pretrain(path: Path, config: ChildConfig, recipe: Recipe, name: str) -> str:
    """Write the config of pre-training, with the lines that run it, and return its words."""
    images = for_images(config.held, recipe) if recipe.images else []
    new = new_run(config.held, path.stem)
    config = config._replace(changes=[*config.changes, *images, *new])
    train = config.load().train_cfg
    last = f'epoch_{train.max_epochs}' if 'max_epochs' in train else f'iter_{train.max_iters}'
    lines = [f'  mcl-mm train {path}']
    if not recipe.images:
        lines[0] += ' --cfg-options \\'
        lines.append('      train_dataloader.dataset.data_root=FOLDER_OF_IMAGES')
    return write(
        path,
        config,
        [
            f'Pre-trains the backbone and pyramid of {name}. Written by mcl-mm adapt.',
            *lines,
            f'  mcl-mm export work_dirs/{path.stem}/{last}.pth {name}_mcl.pth',
            '',
            f'What differs from {recipe.path.name}, and why:',
        ],
        relative(str(recipe.path), path.parent)
        if path.resolve().is_relative_to(ROOT)
        else str(recipe.path),
    )


def for_images(held: Config, recipe: Recipe) -> list[Change]:
    """Where the images are, and a batch that they fill."""
    changes = [
        Change(
            'train_dataloader.dataset.data_root',
            os.path.abspath(os.path.expanduser(recipe.images)),
            f'Your {recipe.count:,} images.',
        )
    ]
    batch = 2 ** (recipe.count.bit_length() - 1)
    if batch < held.train_dataloader.batch_size:
        reason = (
            f'{recipe.count:,} images do not fill a batch of {held.train_dataloader.batch_size}.'
        )
        changes.append(Change('train_dataloader.batch_size', batch, reason))
    return changes


def new_run(held: Config, name: str) -> Iterator[Change]:
    """A run of its own where the base is one's config: MMEngine writes the folder of a run into it.

    Args:
        held (Config): The base.
        name (str): Of the new config.
    """
    if held.get('work_dir'):
        reason = (
            f'A folder of its own: in {held.work_dir} are the checkpoints of the base config, and --resume '
            'would go on with them.'
        )
        yield Change('work_dir', f'work_dirs/{name}', reason)
    if held.get('resume'):
        yield Change('resume', False, 'A new run has nothing to go on with.')


def write_finetune(
    folder: Path, adapted: Adapted, name: str, carries: str, export: str, weights: Optional[str]
) -> str:
    """Write the config of fine-tuning, with the line that runs it, and return its words."""
    path = folder / f'{name}_finetune.py'
    config = adapted.finetune
    config = config._replace(changes=[*config.changes, *new_run(config.held, path.stem)])
    waits = f'Until {name}_pretrain.py has made {export}, a run is refused.'
    return write(
        path,
        config,
        [
            f'Fine-tunes {name} from weights of mcl_mm. Written by mcl-mm adapt.',
            f'  mcl-mm train {path}',
            '',
            carries,
            *([] if weights else [waits]),
            '',
            'What differs from the base config, and why:',
        ],
        relative(config.base, folder),
    )
