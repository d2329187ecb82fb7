"""Try MMDetection's config folders with the operators from torchvision; print a Markdown table.

    python tests/zoo/operators.py [--compiled DIR] [FOLDER ...]

One config of each folder, without pretrained weights, takes one training step (loss and gradient)
on two images of 64 x 64 pixels (more where the backbone needs them) and one inference on one, on
the CPU, in a process of its own. Run it without compiled operators of mmcv; it stops otherwise.
What fails is tried again with the compiled operators of another mmcv, if you name its folder.
Some configs need packages that MMDetection does not ask for: pip install 'mcl_mm[zoo]'.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.logging import MessageHub
from torch.nn.modules.batchnorm import _BatchNorm

from mcl_mm import operators

sys.path.insert(0, str(Path(__file__).parent))
import batches

import configs

GIGABYTE = 2**30


def try_detector(path: Path) -> None:
    """Take one training step and one inference of a config's detector.

    Raises:
        ValueError: The loss is not finite, or no parameter has a gradient.
    """
    torch.manual_seed(0)
    for clock in ('iter', 'epoch'):  # some losses warm up
        MessageHub.get_current_instance().update_info(clock, 0)
    with tempfile.TemporaryDirectory() as bert:
        model_config = configs.small_model(path, Path(bert))
        model = MODELS.build(model_config)
        model.init_weights()
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            # Inference takes the statistics of this step. With those of no step, features of random
            # weights would grow from layer to layer.
            layer.momentum = 1.0
    batch = batches.small_batch(model_config)
    model.train()
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    if not torch.isfinite(loss):
        raise ValueError(f'the loss is {loss.item()}')
    if not any(p.grad is not None and p.grad.any() for p in model.parameters()):
        raise ValueError('no parameter has a gradient')
    model.eval()
    batch = batches.small_batch(model_config)
    one = {key: values[:1] for key, values in batch.items()}  # some take one image at a time
    with torch.no_grad():
        found = model(**model.data_preprocessor(one, training=False), mode='predict')
    if len(found) != 1:
        raise ValueError(f'{len(found)} results for one image')


def record_operators() -> set[str]:
    """The set that the names of operators join when they are called from now on."""
    called = set()
    supplied = vars(sys.modules[operators.NAME])

    def recorder(name, function):
        def record(*args, **kwargs):
            called.add(name)
            return function(*args, **kwargs)

        return record

    for name, value in list(supplied.items()):
        if callable(value) and not name.startswith('_'):
            supplied[name] = recorder(name, value)
    return called


def prepare() -> None:
    """What the command and each of its processes needs."""
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    register_all_modules()
    os.chdir(configs.MIM)


def child(path: Path, answer: Connection, memory: int) -> None:
    """Try one config and send why it failed, or an empty text, and the operators it called."""
    prepare()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    called = record_operators() if operators.is_supplied() else set()
    reason = ''
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            try_detector(path)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            lines = str(error).strip().splitlines() or ['']
            reason = f'{type(error).__name__}: {lines[0][:200]} ({Path(last.filename).name})'
    answer.send((reason, sorted(called)))


def attempt(path: Path, seconds: float, memory: int, method: str = 'fork') -> tuple[str, list[str]]:
    """Run :func:`child` in a process of its own; too long and too large are reasons as well."""
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(path, sender, memory))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds):
            return receiver.recv()
        return f'took longer than {seconds:.0f} s', []
    except EOFError:
        return 'the process died', []
    finally:
        process.kill()
        process.join()


def compare(reason: str, compiled: Path, path: Path, seconds: float, memory: int) -> str:
    """Add to a reason whether the config fails with compiled operators as well.

    A process that is spawned imports everything anew, from this one's ``sys.path``.
    """
    sys.path.insert(0, str(compiled))
    other, _ = attempt(path, seconds, memory, 'spawn')
    sys.path.remove(str(compiled))
    if other == reason:
        return f'also with compiled operators: {reason}'
    return f'{reason}; with compiled operators: {other or "passes"}'


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='*', help='folders of configs (default: all)')
    parser.add_argument('--compiled', type=Path, help='folder that holds an mmcv with operators')
    parser.add_argument('--seconds', type=float, default=300, help='time limit of one config')
    parser.add_argument('--gigabytes', type=float, default=12, help='memory limit of one config')
    arguments = parser.parse_args()
    if arguments.compiled and not any(arguments.compiled.glob('mmcv/_ext.*')):
        parser.error(f'{arguments.compiled} holds no mmcv with compiled operators')
    if not operators.is_supplied():
        parser.error('mmcv has compiled operators here: use an environment without them')
    return arguments


def main() -> None:
    """Print the table."""
    arguments = parse_arguments()
    compiled = arguments.compiled and arguments.compiled.resolve()
    prepare()
    chosen = configs.one_per_folder()
    tried = arguments.folders or list(chosen)
    limits = arguments.seconds, int(arguments.gigabytes * GIGABYTE)
    passed = 0
    print('| folder | config | training step and inference | operators called |')
    print('| --- | --- | --- | --- |', flush=True)  # or each process would print it again
    for folder in tried:
        path = chosen[folder]
        reason, called = attempt(path, *limits)
        passed += not reason
        if reason and compiled:
            reason = compare(reason, compiled, path, *limits)
        names = ', '.join(name for name in called if '_backward' not in name)
        print(f'| {folder} | {path.stem} | {reason or "passes"} | {names} |', flush=True)
    print(f'\n{passed} of {len(tried)} folders pass.')


if __name__ == '__main__':
    main()
