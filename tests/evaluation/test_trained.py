"""What would end an evaluation after all images is found before."""

import pytest
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope

from conftest import ROOT
from mcl_mm.engine.label_check import check_top_k
from mcl_mm.evaluation.trained import load_trained


@pytest.mark.parametrize(
    ('topk', 'classes', 'advice'),
    [((1, 5), 2, 'topk=1$'), ((1, 2, 5), 3, 'topk=1,2$'), ((1, 5), 5, None), (1, 1, None)],
)
def test_accuracy_asks_for_as_many_classes_as_there_are(topk, classes, advice):
    """The advice is what the metric takes."""
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        evaluator = Evaluator([dict(type='mmpretrain.Accuracy', topk=topk)])
    if advice is None:
        check_top_k(evaluator, classes, 'test_evaluator')
    else:
        with pytest.raises(
            ValueError, match=f'needs 5 classes, .* has {classes}.*test_evaluator.{advice}'
        ):
            check_top_k(evaluator, classes, 'test_evaluator')


def test_pretraining_without_labels_has_nothing_to_test():
    cfg = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py')
    with pytest.raises(ValueError, match=r'pretrain\.py has no test_dataloader'):
        load_trained(cfg, 'none.pth')
