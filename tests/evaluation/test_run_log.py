"""What a run has logged: resumed runs are one curve."""

import json

import pytest

from mcl_mm.evaluation.run_log import curves, images_per_second, last_evaluation, read_scalars


def write(run, name, lines):
    folder = run / name / 'vis_data'
    folder.mkdir(parents=True)
    text = '\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / 'scalars.json').write_text(text)


def test_a_resumed_run_is_one_curve(tmp_path):
    """Killed after iteration 35, resumed at 20, killed while writing; 25 to 35 count once."""
    write(tmp_path, '20260101_000000', [dict(step=s, loss=float(s)) for s in range(5, 40, 5)])
    resumed = [dict(step=s, loss=100.0 + s) for s in range(25, 50, 5)]
    write(tmp_path, '20260102_000000', [*resumed, '{"step": 50, "lo'])
    (tmp_path / '20260103_000000/vis_data').mkdir(parents=True)
    (tmp_path / '20260103_000000/vis_data/scalars.json').touch()  # died before its first line
    scalars = read_scalars(tmp_path)
    assert [s['step'] for s in scalars] == list(range(5, 50, 5))
    assert [s['loss'] for s in scalars] == [5, 10, 15, 20, 125, 130, 135, 140, 145]


def test_a_run_started_anew_replaces_the_old_one(tmp_path):
    write(tmp_path, '1', [dict(step=s, loss=1.0) for s in (5, 10, 15)])
    write(tmp_path, '2', [dict(step=5, loss=2.0)])
    assert [(s['step'], s['loss']) for s in read_scalars(tmp_path)] == [(5, 2.0)]


def test_curves_are_means_of_the_sides():
    scalars = [
        dict(step=5, acc_q_level_0=0.1, acc_k_level_0=0.3, acc_q_level_1=0.5, acc_k_level_1=0.5),
        dict(step=7, knn_acc=0.9),
        dict(step=10, acc_q_level_0=0.2, acc_k_level_0=0.2, acc_gap=7.0, lr=0.01),
    ]
    found = curves(scalars, 'acc')
    assert {level: points[0] for level, points in found.items()} == {'0': [5, 10], '1': [5]}
    assert found['0'][1] == pytest.approx([0.2, 0.2])
    assert found['1'][1] == [0.5]
    assert curves(scalars, 'lr') == {'': ([10], [0.01])}
    assert curves(scalars, 'knn_acc') == {'': ([7], [0.9])}
    assert curves(scalars, 'std') == {}


def test_the_last_evaluation_counts():
    scalars = [
        dict(step=1, loss=2.0, time=1.0, **{'a/b': 7}),
        {'step': 1, 'coco/bbox_mAP': 0.1, 'data_time': 1.0},
        {'step': 1, 'knn_acc': 0.3},
        dict(step=2, loss=1.0),
        {'step': 2, 'coco/bbox_mAP': 0.2, 'coco/bbox_mAP_copypaste': '0.2 0.3', 'time': 1.0},
    ]
    assert last_evaluation(scalars) == {'coco/bbox_mAP': 0.2}
    with pytest.raises(RuntimeError, match='nothing was evaluated'):
        last_evaluation(scalars[:1])


def test_an_evaluation_that_detects_nothing_has_no_metrics():
    """Not those of an earlier one."""
    scalars = [
        {'step': 1, 'coco/bbox_mAP': 0.1, 'time': 1.0},
        {'step': 2, 'time': 1.0, 'data_time': 0.1},
    ]
    assert last_evaluation(scalars) == {}


def test_the_rate_of_a_run_is_the_median_of_its_lines():
    lines = [dict(step=s, images_per_second=rate) for s, rate in enumerate((1.0, 40.0, 60.0))]
    assert images_per_second([*lines, dict(step=9)]) == dict(images_per_second=40.0)
    assert images_per_second([dict(step=1)]) == {}


def test_a_run_of_another_program_that_logged_to_tensorboard_alone(tmp_path):
    folder = tmp_path / '1/vis_data'
    folder.mkdir(parents=True)
    (folder / 'events.out.tfevents.1.host.1.0').touch()
    with pytest.raises(FileNotFoundError, match=r'TensorBoard alone: start it by .* or add dict'):
        read_scalars(tmp_path)


def test_lines_that_no_run_writes_are_passed_over(tmp_path):
    folder = tmp_path / '1/vis_data'
    folder.mkdir(parents=True)
    lines = ['3', '[1]', 'null', '{"loss": 5}', '{"loss": 1, "step": 1, "note": "x", "list": [1]}']
    (folder / 'scalars.json').write_text('\n'.join([*lines, '{"loss": 2, "step": 2}', '{"los']))
    assert read_scalars(tmp_path) == [dict(loss=1, step=1), dict(loss=2, step=2)]
