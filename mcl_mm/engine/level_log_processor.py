"""A line of the log that can be read: what is logged per level, in one place."""

import re
from collections import defaultdict

from mmengine.runner import LogProcessor, Runner

from mcl_mm.registry import LOG_PROCESSORS

PER_LEVEL = re.compile(r'  (\w+?)_(?:[qk]_)?level_(\d+): (\S+)')


@LOG_PROCESSORS.register_module()
class LevelLogProcessor(LogProcessor):
    """MMEngine's log processor whose text shows one number a level, the mean of both sides.

    ``acc_q_level_0: 0.5000  acc_k_level_0: 0.6000  acc_q_level_1: ...`` becomes
    ``acc: 0.550 0.340 0.210 0.130``, level 0 first. What goes to JSON and TensorBoard stays whole.
    """

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """As MMEngine's: the scalars, and the text of the line."""
        tag, text = super().get_log_after_iter(runner, batch_idx, mode)
        levels = defaultdict(lambda: defaultdict(list))
        for name, level, value in PER_LEVEL.findall(text):
            levels[name][int(level)].append(float(value))
        text = PER_LEVEL.sub('', text)
        for name, values in levels.items():
            means = (sum(values[level]) / len(values[level]) for level in sorted(values))
            text += f'  {name} by level: ' + ' '.join(f'{value:.3g}' for value in means)
        return tag, text
