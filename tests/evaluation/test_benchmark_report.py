"""Medians, ranges and ratios of a benchmark."""

from mcl_mm.evaluation.benchmark_report import ROWS, summarise, table


def test_summary_and_table():
    """Ratios are taken round by round: a slow round slows both of its turns."""
    keys = [key for key, *_ in ROWS]
    rates = [(10, 20), (4, 12), (8, 20)]
    rounds = [
        [
            dict(dict.fromkeys(keys, 0.5), step_rate=rate, EMA_share=share, loss_share=None)
            for rate, share in zip(turn, (None, 0.5))
        ]
        for turn in rates
    ]
    first, second = summarise(rounds)
    assert first['values']['step_rate'] == dict(median=8, min=4, max=10)
    assert second['values']['step_rate'] == dict(median=20, min=12, max=20)
    assert first['ratios']['step_rate'] == dict(median=1, min=1, max=1)
    assert second['ratios']['step_rate'] == dict(median=2.5, min=2, max=3)
    assert first['values']['EMA_share'] is None
    assert 'EMA_share' not in first['ratios']
    lines = table(['a', 'b'], [first, second]).splitlines()
    assert '| step alone, images/s | 8 (4 to 10) | 20 (12 to 20) |' in lines
    assert '| - times the first | 1.00 | 2.50 (2.00 to 3.00) |' in lines
    assert '| EMA, of the step | - | 50.0% |' in lines
    assert not any('loss, of the step' in line for line in lines)  # nobody's
    assert '| online, of the step | 50.0% | 50.0% |' in lines
