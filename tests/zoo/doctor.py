"""Adapt, examine and build every detector that MMDetection ships. A command for maintainers, no test:

    python tests/zoo/doctor.py                          all configs
    python tests/zoo/doctor.py --first                  one of each folder
    python tests/zoo/doctor.py --only yolox ssd         some folders

Every config runs in a process of its own, with a time limit. Prints counts as Markdown: configs, adapted,
refused by reason, advised by rule. Weights are not initialised, names and shapes alone count.
"""

import argparse
import contextlib
import functools
import gc
import json
import multiprocessing
import re
import traceback
from collections import Counter, defaultdict
from pathlib import Path

import mmdet
import mmengine.config.utils
import torch
from mmengine.config import Config

from mcl_mm.transfer import to_mmdet
from mcl_mm.transfer.detector.adapt import adapt
from mcl_mm.transfer.detector.doctor import diagnose
from mcl_mm.transfer.detector.examine import planned_processes
from mcl_mm.transfer.detector.rules import Case, schedule
from mcl_mm.transfer.detector.settings import (
    base_of,
    build,
    carried_parts,
    load_detector,
    scope_of,
)

CONFIGS = Path(mmdet.__file__).parent / '.mim/configs'
RECIPE = Path(__file__).parents[2] / 'configs/mcl_r50_100e.py'


def configs() -> list[str]:
    """Names of MMDetection's configs, those that others inherit from left out."""
    paths = (path.relative_to(CONFIGS) for path in sorted(CONFIGS.rglob('*.py')))
    return [str(path) for path in paths if '_base_' not in path.parts]


def no_initialisation() -> None:
    """Make weights zero, which is fast: names and shapes are what counts here."""
    for name in dir(torch.nn.init):
        if name.endswith('_') and not name.startswith('_'):
            setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor.data.zero_())


def examine(name: str) -> dict:
    """Adapt one config, then let the doctor examine what came out, and the schedule of the original."""
    base = base_of(f'mmdet::{name}')
    detector = load_detector(base)
    adapted = adapt(base, str(RECIPE), 'weights.pth')
    cfg = adapted.finetune.load()
    model = build(cfg.model, scope_of(cfg))
    ours = build(adapted.pretrain.load().model, 'mcl_mm')
    checkpoint = dict(state_dict=to_mmdet(ours.state_dict()), meta={})
    processes = planned_processes(cfg)
    diagnosis = diagnose(model, checkpoint, cfg, carried_parts(cfg), processes)
    diagnosis.check()
    case = Case(detector, model, processes=processes)
    advised = [finding for rule in schedule.RULES if (finding := rule(case))]
    found = {trap.id: trap.fix for trap in [*diagnosis.traps, *advised]}
    return dict(outcome='adapted', advice=found)


def in_child(name: str, pipe: multiprocessing.Pipe) -> None:
    """Send what :func:`examine` finds, or how it ends."""
    torch.set_num_threads(1)
    no_initialisation()
    try:
        pipe.send(examine(name))
    except (OSError, ValueError) as error:
        pipe.send(dict(outcome='refused', reason=str(error).splitlines()[0]))
    except BaseException:
        pipe.send(dict(outcome='failed', reason=traceback.format_exc()[-600:]))


def run(name: str, limit: float) -> dict:
    """Examine one config in a process of its own, for at most ``limit`` seconds."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=in_child, args=(name, sender))
    child.start()
    sender.close()
    try:
        result = receiver.recv() if receiver.poll(limit) else dict(outcome='too slow')
    except EOFError:
        result = dict(outcome='failed', reason='the process ended')
    child.kill()
    child.join()
    return dict(config=name, **result)


def kind_of(reason: str) -> str:
    """A refusal without the names and numbers in it, to be counted."""
    reason = re.sub(r"^'?mmdet::\S+", 'CONFIG', reason)
    return re.sub(r'\[[^]]*\]', '[...]', reason)[:160]


def summary(results: list[dict]) -> str:
    """Counts, as Markdown."""
    outcomes = Counter(result['outcome'] for result in results)
    lines = ['| | configs |', '| --- | --- |', f'| tried | {len(results)} |']
    lines += [f'| {outcome} | {count} |' for outcome, count in outcomes.most_common()]
    for title, key in (('refused or failed because', 'reason'), ('advised', 'advice')):
        examples = defaultdict(list)
        for result in results:
            if key == 'advice':
                for rule in result.get(key, ()):
                    examples[f'`{rule}`'].append(result['config'])
            elif key in result:
                examples[kind_of(result[key].strip().splitlines()[-1])].append(result['config'])
        lines += ['', f'| {title} | configs | such as |', '| --- | --- | --- |']
        ranked = sorted(examples.items(), key=lambda item: -len(item[1]))
        lines += [f'| {what} | {len(found)} | {found[0]} |' for what, found in ranked]
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--first', action='store_true', help='one config of each folder')
    parser.add_argument('--only', nargs='+', help='folders')
    parser.add_argument('--limit', type=float, default=300, help='seconds for one config')
    parser.add_argument('--out', type=Path, help='JSON lines; what is in it is not tried again')
    args = parser.parse_args()
    names = configs()
    if args.only:
        names = [name for name in names if name.split('/')[0] in args.only]
    if args.first:
        names = list({name.split('/')[0]: name for name in reversed(names)}.values())[::-1]
    results = []
    if args.out and args.out.exists():
        results = [json.loads(line) for line in args.out.read_text().splitlines()]
    # Once, for all children: imports, and the hundred metafiles that MMEngine reads for each config.
    mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
    Config.fromfile(RECIPE)
    with contextlib.suppress(OSError, ValueError):
        load_detector(base_of(f'mmdet::{names[0]}'))
    gc.freeze()
    done = {result['config'] for result in results}
    for name in (name for name in names if name not in done):
        results.append(run(name, args.limit))
        print(results[-1]['outcome'], name, flush=True)
        if args.out:
            with args.out.open('a') as file:
                file.write(json.dumps(results[-1]) + '\n')
    print(f'\n{summary(results)}')


if __name__ == '__main__':
    main()
