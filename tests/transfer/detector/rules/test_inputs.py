"""Images come in as they did in pre-training: their scale, and the range of those of more than 8 bits."""

from mmengine.config import Config

from conftest import tiny_detector
from mcl_mm.transfer.detector.adapt import finetune_changes
from tiny_detectors import FASTER_RCNN, META, deeper, examine, follow


def test_values_of_more_than_8_bits_are_read_with_the_range_of_pretraining(export):
    """In every pipeline, as the line says it; a range of another set is none."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    trained = dict(META, input=dict(META['input'], value_ranges=[[100.0, 4000.0]]))
    deep = dict(export, meta=trained)
    (trap,) = examine(cfg, deep).traps
    assert trap.id == 'other-value-range'
    assert 'train_dataloader, val_dataloader, test_dataloader of the detector do not' in trap.text
    cured = follow(cfg, trap.fix)
    loader = dict(type='mcl_mm.LoadAnyImage', value_range=[100.0, 4000.0])
    for name in ('train', 'val', 'test'):
        before, after = (c[f'{name}_dataloader'].dataset.pipeline for c in (cfg, cured))
        assert after == [loader, *before[1:]]
    assert examine(cured, deep).traps == []
    cured.test_dataloader.dataset.pipeline[0].value_range = [0, 255]
    (trap,) = examine(cured, deep).traps
    assert 'that test_dataloader of the detector does not' in trap.text
    assert examine(follow(cured, trap.fix), deep).traps == []


def test_8_bits_need_no_range(export):
    meta = dict(META, input=dict(META['input'], value_ranges=[]))
    assert examine(deeper(tiny_detector(FASTER_RCNN)), dict(export, meta=meta)).traps == []


def test_a_pipeline_that_scales_is_judged_in_place_of_the_preprocessor(export):
    """As MMDetection 2 had it: a mean of the preprocessor would be a second one."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    scale = {key: META['input'][key] for key in ('mean', 'std')}
    cfg.model.data_preprocessor.update(bgr_to_rgb=False, mean=None, std=None)
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline.insert(-1, dict(type='Normalize', **scale))  # to_rgb by default
    assert examine(cfg, export).traps == []
    paths = [change.path for change in finetune_changes(cfg, 'weights.pth')]
    assert not [path for path in paths if path.startswith('model.data_preprocessor')]
    pipeline[-2].update(mean=[103.53, 116.28, 123.675], to_rgb=False)
    (trap,) = examine(cfg, export).traps
    assert (trap.id, trap.changes) == ('other-input', ())
    assert 'than they get here: RGB, mean [123.675' in trap.text
    assert '/ BGR, mean [103.53' in trap.text
    words, step = trap.fix.split(' dict(')
    assert words == 'make the step Normalize of every pipeline'
    pipeline[-2] = Config.fromstring(f'step = dict({step}', '.py').step
    assert pipeline[-2] == dict(type='Normalize', **scale, to_rgb=True)
    assert examine(cfg, export).traps == []
