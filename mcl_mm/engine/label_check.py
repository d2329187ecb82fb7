"""Do the classes of the data, of what is validated on, and of the model agree?"""

from collections.abc import Sequence
from typing import Optional

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch import nn

from mcl_mm.datasets import LabelledImages, labelled_sets


def check_labels(runner: Runner, datasets: list[LabelledImages], model: nn.Module) -> None:
    """Compare the classes of the data, and of what it is validated on, with the model's.

    Args:
        runner (Runner): May have a validation.
        datasets (list[LabelledImages]): What it trains on, inside of wrappers or not.
        model (nn.Module): Its head has ``num_classes``.

    Raises:
        ValueError: They differ.
    """
    for dataset in datasets:
        check_classes(dataset, model, datasets[0].classes)
    tested = (
        labelled_sets(runner.val_loop.dataloader.dataset) if datasets and runner.val_loop else []
    )
    for dataset in tested:
        check_classes(dataset, model, datasets[0].classes)
    if tested:
        check_top_k(runner.val_loop.evaluator, model.head.num_classes, 'val_evaluator')


def check_top_k(evaluator: Evaluator, num_classes: int, name: str) -> None:
    """Refuse a metric that asks for more classes than there are, which fails after all images.

    Args:
        evaluator (Evaluator): Its metrics may have ``topk``, such as mmpretrain's ``Accuracy``.
        num_classes (int): Of the model.
        name (str): What a config calls the evaluator.

    Raises:
        ValueError: Says what to set.
    """
    for metric in evaluator.metrics:
        wanted = getattr(metric, 'topk', ())
        if max(wanted, default=0) > num_classes:
            fits = ','.join(str(k) for k in wanted if k <= num_classes)
            raise ValueError(
                f'top-{max(wanted)} accuracy needs {max(wanted)} classes, the model has {num_classes}: set '
                f'{name}.topk={fits}'
            )


def check_classes(
    dataset: LabelledImages, model: nn.Module, learnt: Optional[Sequence[str]] = None
) -> None:
    """Compare the classes of a data set with a model's.

    Args:
        dataset (LabelledImages): To train or to test on.
        model (nn.Module): Its head has ``num_classes``.
        learnt (Sequence[str], optional): Names of the classes the model is trained on. Defaults to None,
            not known.

    Raises:
        ValueError: They differ.
    """
    wanted, found = model.head.num_classes, dataset.num_classes
    if found > wanted or (dataset.classes and found != wanted):
        raise ValueError(
            f'{dataset.data_root} has {found} classes, the model {wanted}: set '
            f'model.head.num_classes={found}'
        )
    if dataset.classes and learnt and tuple(learnt) != dataset.classes:
        differ = sorted(set(dataset.classes) ^ set(learnt))
        raise ValueError(
            f'{dataset.data_root} has other folders than what the model learns from, so its labels mean '
            f'something else: {", ".join(differ[:5])}'
        )
