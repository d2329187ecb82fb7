"""Images of more than 8 bits are read with the range of pre-training."""

from conftest import tiny_detector
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
