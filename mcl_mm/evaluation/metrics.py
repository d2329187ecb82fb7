"""Metrics of finished runs: which there are, which to show, and how several runs are put in words."""

from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import METRICS, Registry


def fill(results: list[dict[str, float]], cfg: Config) -> list[dict[str, float]]:
    """Results with the same metrics in each: one that was not logged is 0, for nothing was detected.

    Args:
        results (list[dict[str, float]]): Of all runs.
        cfg (Config): Of their detector, which says the names if no run has any.
    """
    names = list(dict.fromkeys(name for result in results for name in result))
    if not names:
        with METRICS.switch_scope_and_registry(cfg.get('default_scope', 'mmdet')) as registry:
            names = detection_metrics(cfg.val_evaluator, registry)
    return [{name: result.get(name, 0.0) for name in names} for result in results]


def detection_metrics(evaluator: Any, registry: Registry) -> list[str]:
    """What evaluators of COCO's kind call their overall metrics: ``coco/bbox_mAP`` and so on.

    Args:
        evaluator (Any): A config's ``val_evaluator``.
        registry (Registry): Of the detector's metrics.
    """
    names = []
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        kinds = metric.get('metric', 'bbox')
        prefix = metric.get('prefix') or registry.get(metric['type']).default_prefix
        overall = 'AP' if prefix == 'lvis' else 'mAP'
        for kind in kinds if isinstance(kinds, (list, tuple)) else [kinds]:
            names.append(f'{prefix}/{kind}_{overall}')
    return names


def headline(names: list[str]) -> list[str]:
    """The metrics a paper would print: overall ones first by name, without sizes and thresholds."""
    chosen = [n for n in names if n.split('_')[-1].split('/')[-1] in ('mAP', 'AP', 'PQ', 'AP50')]
    return chosen or names


def spread(values: list[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    deviation = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
    return f'{np.mean(values):.3f}{deviation}'
