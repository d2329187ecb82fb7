"""Fit a detector and weights of mcl_mm to each other: writes a config to fine-tune and one to pre-train.

    python tools/adapt.py my_detector.py --weights mcl_r50.pth
    python tools/adapt.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --out-dir configs

NAME_finetune.py inherits from the detector's config, and changes what is needed for as much of the weights
as fits; NAME_pretrain.py trains the detector's own backbone and pyramid, for when there are no weights of
that network yet. Data sets, classes, pipelines, batch sizes and schedules stay the user's. Both files say
in words what they change and why.

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Optional

from mmengine.config import Config

import mcl_mm  # noqa: F401  (checks the environment and registers the components)
from mcl_mm.transfer import read_checkpoint, to_mmdet
from mcl_mm.transfer.adapt import (
    NoPyramidError,
    build,
    carried,
    check_fit,
    finetune_changes,
    load_detector,
    pretrain_changes,
)
from mcl_mm.transfer.child_config import ChildConfig, comment_lines

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / 'configs/mcl_r50_100e.py'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help="config of an MMDetection detector: a path, or a name as 'mmdet::...'"
    )
    parser.add_argument(
        '--weights', help='file of weights to start from, written by tools/export.py'
    )
    parser.add_argument(
        '--out-dir',
        help="where to write (default: beside the config; for 'mmdet::...' the current folder)",
    )
    args = parser.parse_args()
    try:
        adapt(args.config, args.weights, args.out_dir)
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')


def adapt(config: str, weights: Optional[str], out_dir: Optional[str]) -> None:
    """Write the configs and print what they change."""
    in_package = '::' in config
    base = config if in_package else os.path.abspath(config)
    name = Path(config).stem
    folder = Path(out_dir or ('.' if in_package else Path(config).parent))
    finetune_path, pretrain_path = (folder / f'{name}_{aim}.py' for aim in ('finetune', 'pretrain'))
    export = f'{name}_mcl.pth'
    detector = load_detector(base)
    checkpoint = read_checkpoint(weights) if weights else dict(state_dict=None, meta={})
    state_dict, meta = checkpoint['state_dict'], checkpoint['meta']

    # The detector that takes all of an export, and the recipe that makes such an export.
    whole = ChildConfig(base, detector, finetune_changes(detector, export))
    try:
        recipe = Config.fromfile(RECIPE)
        pretrain = ChildConfig(str(RECIPE), recipe, pretrain_changes(whole.load(), recipe))
        check_fit(whole.load(), to_mmdet(build(pretrain.load().model, 'mcl_mm').state_dict()))
    except NoPyramidError as error:
        if not weights:
            raise NoPyramidError(f'{error}. Without --weights there is nothing to carry') from error
        print(f'No config for pre-training: {error}.')
    else:
        last_checkpoint = f'work_dirs/{pretrain_path.stem}/epoch_{recipe.train_cfg.max_epochs}.pth'
        inside = folder.resolve().is_relative_to(ROOT)
        write(
            pretrain_path,
            pretrain,
            [
                f'Pre-trains the backbone and pyramid of {name}. Written by tools/adapt.py.',
                f'  python tools/train.py {pretrain_path} --cfg-options \\',
                '      train_dataloader.dataset.data_root=FOLDER_OF_IMAGES',
                f'  python tools/export.py {last_checkpoint} {export}',
                '',
                f'What differs from {RECIPE.name}, and why:',
            ],
            os.path.relpath(RECIPE, folder) if inside else str(RECIPE),
        )

    names = state_dict and set(state_dict)
    changes = finetune_changes(detector, weights or export, names, meta)
    finetune = ChildConfig(base, detector, changes)
    adapted = finetune.load()
    if weights:
        try:
            report = check_fit(adapted, state_dict)
        except ValueError as error:
            hint = f'\n{pretrain_path} pre-trains this detector itself' * pretrain_path.exists()
            raise ValueError(f'{weights} does not fit {name}: {error}{hint}') from error
        print(f'What {weights} fills of the detector, in tensors:\n{report.table()}\n')
    write(
        finetune_path,
        finetune,
        [
            f'Fine-tunes {name} from weights of mcl_mm. Written by tools/adapt.py.',
            f'  python tools/train.py {finetune_path}',
            '',
            carried(adapted, names),
            *(
                []
                if weights
                else [f'Until {pretrain_path.name} has made {export}, a run is refused.']
            ),
            '',
            'What differs from the base config, and why:',
        ],
        base if in_package else os.path.relpath(base, folder),
    )


def write(path: Path, config: ChildConfig, comment: list[str], base: str) -> None:
    """Write a config and print its comment; never over a file that holds something else.

    Raises:
        FileExistsError: There is such a file.
    """
    paragraphs = [*comment, *config.reasons()]
    text = config.text(paragraphs, base)
    if path.exists() and path.read_text() != text:
        raise FileExistsError(
            f'{path} exists and is different: move it, or choose another --out-dir'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f'{path}\n', *(f'  {line[2:]}\n' for line in comment_lines(paragraphs)), sep='')


if __name__ == '__main__':
    main()
