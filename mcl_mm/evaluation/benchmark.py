"""Recipes in turns: how fast they are, what they compute, how much memory they take."""

import contextlib
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple, Optional

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mcl_mm.channels import follow_channels
from mcl_mm.config import RECIPES, find_config, type_name
from mcl_mm.engine.cpu import adapt_to_cpu
from mcl_mm.models.routing import check_joint
from mcl_mm.reading import building, read_config
from mcl_mm.registry import DATASETS

from .benchmark_report import summarise
from .cost import multiply_adds, side_settings
from .photos import LABELLED, draw_photos, list_images
from .timing import Candidate, measure


class Plan(NamedTuple):
    """What to measure.

    Attributes:
        configs (list[str]): Paths, or names of recipes.
        options (dict): Settings of the configs to override.
        reference (bool): Before the configs, the first of them with the authors' step.
        batch_sizes (list[int]): Images a step.
        sides (list[int], optional): Of a sheet, in pixels; None is the config's own.
        steps (int): Timed in a round.
        rounds (int): Turns of each candidate; none only counts.
        threads (int, optional): Of the CPU; None is PyTorch's own number.
        images (str, optional): Folder; None draws some.
        profile (str, optional): Folder for PyTorch's profile of a step.
    """

    configs: list[str]
    options: dict = {}
    reference: bool = False
    batch_sizes: Sequence[int] = (32,)
    sides: Sequence[Optional[int]] = (None,)
    steps: int = 5
    rounds: int = 3
    threads: Optional[int] = None
    images: Optional[str] = None
    profile: Optional[str] = None

    def check(self) -> None:
        """Refuse numbers that nothing can be measured with.

        Raises:
            ValueError: Says which option is to be what.
        """
        at_least = [
            ('rounds', self.rounds, 0),
            ('steps', self.steps, 1),
            ('threads', self.threads, 1),
        ]
        at_least += [('batch-size', size, 2) for size in self.batch_sizes]
        for name, value, least in at_least:
            if value is not None and value < least:
                raise ValueError(f'--{name} must be at least {least}, got {value}')
        for side in self.sides:
            if side is not None and (side < 32 or side % 32):
                raise ValueError(f'--side must be a multiple of 32 pixels, got {side}')


def benchmark(plan: Plan) -> dict:
    """Measure all candidates in turn.

    Args:
        plan (Plan): What, and how often.

    Returns:
        dict: Circumstances; per candidate its name, all rounds and their summary.

    Raises:
        OSError, ValueError: The plan, a config or the images are of no use. Before anything is measured.
        MemoryError: There is too little memory for a turn.
    """
    plan.check()
    # Libraries print while they are imported and built; the results have the output to themselves.
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        os.environ.update(allocator_settings())  # for the processes that measure
        candidates = list(list_candidates(plan, folder))
        costs = [count(candidate) for candidate in candidates]
        if not plan.rounds:
            rounds = [[dict(multiply_adds=step_cost / 1e9) for step_cost, _ in costs]]
        else:
            rounds = [take_turns(plan, turn, candidates, costs) for turn in range(plan.rounds)]
    cuda = torch.cuda.is_available()
    return dict(
        schema=2,
        command=shlex.join(['python', *sys.argv]),
        device=torch.cuda.get_device_name() if cuda else 'cpu',
        cores=len(os.sched_getaffinity(0)),
        threads=plan.threads or torch.get_num_threads(),
        torch=torch.__version__,
        steps=plan.steps,
        candidates=[
            dict(
                name=candidate.name,
                batch_size=candidate.batch_size,
                side=candidate.side,
                rounds=[turn[index] for turn in rounds],
                **summary,
            )
            for index, (candidate, summary) in enumerate(zip(candidates, summarise(rounds)))
        ],
    )


def list_candidates(plan: Plan, folder: str) -> Iterator[Candidate]:
    """Every config at every size, ready to run.

    Args:
        plan (Plan): What is wanted.
        folder (str): For images and lists of them.
    """
    images = plan.images or os.path.join(folder, 'images')
    if not plan.images:
        os.mkdir(images)
        draw_photos(images)
    for batch_size in plan.batch_sizes:
        list_images(images, plan.steps * batch_size, os.path.join(folder, f'list.{batch_size}'))
    paths = [find_config(config) for config in plan.configs]
    names = [Path(path).stem for path in paths]
    for index, (path, name) in enumerate(zip(paths, names)):
        if name in names[:index]:
            name = f'{name}_{index + 1}'
        for batch_size, side in itertools.product(plan.batch_sizes, plan.sides):
            cfg = read_config(path, plan.options)
            listed = os.path.join(folder, f'list.{batch_size}')
            with building(path):
                follow_channels(cfg)
                side = prepare(cfg, batch_size, side, images, listed, plan.options)
            sized = name
            if len(plan.batch_sizes) > 1:
                sized += f'_batch{batch_size}'
            if len(plan.sides) > 1:
                sized += f'_side{side}'
            if plan.reference and index == 0:
                reference = as_the_authors(cfg, path)
                yield Candidate(f'{sized}_reference', reference, batch_size, side)
            yield Candidate(sized, cfg, batch_size, side)


def as_the_authors(cfg: Config, path: str) -> Config:
    """A config whose step computes all that the authors' code does.

    Raises:
        ValueError: Its step is not the published one.
    """
    joint = check_joint(cfg.model.get('joint', 'all'), cfg.model.get('routed'))
    if type_name(cfg.model) != 'MCL' or joint != 'all':
        raise ValueError(
            f"--reference needs a first config that is an MCL with joint='all', not {path}"
        )
    reference = Config(cfg.to_dict())
    reference.model.type = 'mcl_mm.AuthorsMCL'
    return reference


def count(candidate: Candidate) -> tuple[float, float]:
    """What a candidate computes, see :func:`multiply_adds`; fails now if it would fail in its turn."""
    print(f'counting {candidate.name}', file=sys.stderr)
    with building(candidate.cfg.filename), DefaultScope.overwrite_default_scope('mcl_mm'):
        DATASETS.build(candidate.cfg.train_dataloader.dataset)[0]
        return multiply_adds(candidate.cfg.model, candidate.batch_size, candidate.side)


def take_turns(
    plan: Plan, turn: int, candidates: list[Candidate], costs: list[tuple[float, float]]
) -> list[dict]:
    """One round: the values of each candidate, measured in a process of its own.

    Memory and caches are then nobody else's.
    """
    found = []
    for candidate, (step_cost, backbone_cost) in zip(candidates, costs):
        with ProcessPoolExecutor(
            1, get_context('spawn'), initializer=set_up_process, initargs=(plan.threads,)
        ) as pool:
            profile_to = plan.profile if turn == 0 else None
            try:
                values = pool.submit(measure, candidate, plan.steps, profile_to).result()
            except BrokenProcessPool:
                raise MemoryError(
                    'a measuring process was killed, as the system does when memory runs out: lower '
                    '--batch-size'
                ) from None
        values['multiply_adds'] = step_cost / 1e9
        values['achieved'] = (step_cost * values['step_rate']) / (
            backbone_cost * values['backbone_rate']
        )
        found.append(values)
        print(
            f'round {turn + 1} of {plan.rounds}, {candidate.name}: {values["step_rate"]:.3g} images/s',
            file=sys.stderr,
        )
    return found


def set_up_process(threads: Optional[int]) -> None:
    """Prepare a process that measures. It ends with the command, even if that is killed."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # what libraries print must not get into --json
    if threads:
        torch.set_num_threads(threads)


def end_with_parent() -> None:
    """Wait until the process that started this one has ended, then end this one."""
    wait([parent_process().sentinel])
    os._exit(1)


def prepare(
    cfg: Config,
    batch_size: int,
    side: Optional[int],
    folder: str,
    listed: str,
    options: Optional[dict] = None,
) -> int:
    """Make a config of pre-training one for two short epochs.

    Args:
        cfg (Config): Changed in place.
        batch_size (int): Images a step.
        side (int, optional): Of a sheet, in pixels; None leaves the config's.
        folder (str): Images.
        listed (str): File that lists the images of an epoch.
        options (dict, optional): Settings of the command line. Defaults to None.

    Returns:
        int: The side of a sheet, in pixels.

    Raises:
        ValueError: It is not a config of pre-training on a folder of images.
    """
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    settings = list(side_settings(dataset.get('pipeline')))
    kind = type_name(dataset)
    if kind not in ('UnlabelledImages', 'LabelledImages') or not settings:
        raise ValueError(
            f'{cfg.filename} is not a config of pre-training: its data must be UnlabelledImages or '
            'LabelledImages, with views from RandomResizedCrop or NativeViews'
        )
    for transform, key in settings:
        transform[key] = side or transform[key]
    dataset.data_root, dataset.ann_file = folder, listed
    if kind == 'LabelledImages':
        dataset.ann_file += LABELLED
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.drop_last = True
    cfg.train_dataloader.sampler = dict(type='SeededSampler')
    cfg.train_cfg = dict(type='ResumableEpochLoop', max_epochs=2)
    cfg.log_processor = dict(cfg.get('log_processor') or dict(type='LogProcessor'), by_epoch=True)
    for part in ('val', 'test'):
        for kind in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{part}_{kind}'] = None
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, checkpoint=None)
    cfg.load_from, cfg.resume, cfg.log_level, cfg.launcher = None, False, 'ERROR', 'none'
    if not torch.cuda.is_available():
        adapt_to_cpu(cfg, options)
    return settings[0][0][settings[0][1]]


def allocator_settings() -> dict[str, str]:
    """What ``tools/allocator.sh`` sets in the environment, with all that was set before."""
    command = ['bash', '-c', '. "$0"; env -0', RECIPES.parent / 'tools' / 'allocator.sh']
    lines = subprocess.check_output(command, text=True, errors='surrogateescape').split('\0')
    return dict(line.split('=', 1) for line in lines if '=' in line)
