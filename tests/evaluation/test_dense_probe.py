"""The linear probe of boxes against slow references, and on colours."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from mcl_mm.evaluation import DenseProbe, fit_linear
from mcl_mm.evaluation.dense_probe import add_background
from mcl_mm.evaluation.probe import normalise
from tiny_probes import FakeRunner, dense_probe, draw_colour_boxes


@pytest.fixture
def colour_boxes(tmp_path):
    return draw_colour_boxes(tmp_path)


def test_linear_map_is_the_weighted_ridge_solution():
    """Written as ordinary least squares on rows scaled by weights, with rows for the penalty."""
    torch.manual_seed(0)
    x, labels = torch.randn(60, 5), torch.randint(3, 6, (60,))
    x[labels == 4] += 1
    weight = np.array([1 / (labels == c).sum().item() / 3 for c in labels])
    mean = (weight[:, None] * x.numpy()).sum(0)
    std = np.sqrt((weight[:, None] * (x.numpy() - mean) ** 2).sum(0))
    rows = (x.numpy() - mean) / std
    target = np.eye(3)[labels.numpy() - 3] - 1 / 3
    root = np.sqrt(weight)[:, None]
    a = np.concatenate([root * rows, np.sqrt(0.1) * np.eye(5)])
    b = np.concatenate([root * target, np.zeros((5, 3))])
    solution = np.linalg.lstsq(a, b, rcond=None)[0]
    other = torch.randn(200, 5)
    expected = 3 + ((other.numpy() - mean) / std @ solution).argmax(1)
    assert fit_linear(x, labels, 0.1)(other).tolist() == expected.tolist()


def test_linear_map_weighs_classes_equally_and_finds_what_is_separable():
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(25)
    x = torch.randn(100, 16) + 8 * F.one_hot(labels, 16)
    assert torch.equal(fit_linear(x, labels, 0.1)(x), labels)
    often = torch.cat([torch.arange(100), torch.arange(0, 100, 4).repeat(9)])
    other = torch.randn(500, 16) + 2 * F.one_hot(torch.arange(500) % 4, 16)
    once = fit_linear(x, labels, 0.1)(other)
    assert torch.equal(fit_linear(x[often], labels[often], 0.1)(other), once)


def test_dense_probe_tells_colours_apart(colour_boxes, tiny_config, build):
    probe, runner = dense_probe(colour_boxes), FakeRunner(build(tiny_config))
    probe.before_run(runner)
    scalars = probe.run(runner, 0)
    assert scalars == dict(dense_acc=1.0, dense_chance=pytest.approx(1 / 3))


def test_dense_probe_tells_one_class_from_background(colour_boxes, tiny_config, build):
    content = json.loads((colour_boxes / 'boxes.json').read_text())
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] == 7]
    (colour_boxes / 'one.json').write_text(json.dumps(content))
    probe = DenseProbe(str(colour_boxes), 'one.json', 'images', num_workers=0)
    runner = FakeRunner(build(tiny_config))
    probe.before_run(runner)
    assert probe.run(runner, 0) == dict(dense_acc=1.0, dense_chance=0.5)


def test_background_is_beside_the_objects_and_as_large():
    """Where there is place for it: two objects of which one fills all that is left."""
    boxes = np.array([[0, 0, 30, 40], [40, 0, 200, 200]], np.float32)
    item = dict(gt_bboxes=boxes, gt_labels=np.array([3, 3]), size=(200, 200))
    found = add_background(item)
    assert found['gt_labels'].tolist() == [3, 3, 4]
    x1, y1, x2, y2 = found['gt_bboxes'][2].tolist()
    assert (x2 - x1, y2 - y1) == pytest.approx((30, 40), abs=1e-3)
    assert min(x1, y1) >= 0
    assert max(x2, y2) <= 200
    shared = [
        max(0, min(x2, b[2]) - max(x1, b[0])) * max(0, min(y2, b[3]) - max(y1, b[1])) for b in boxes
    ]
    assert sum(shared) <= 0.1 * 30 * 40
    assert add_background(item)['gt_bboxes'].tolist() == found['gt_bboxes'].tolist()
    assert len(item['gt_bboxes']) == 2


def test_dense_probe_without_information_is_at_chance(tiny_config, build, colour_boxes):
    torch.manual_seed(0)
    images = torch.arange(300).repeat_interleave(4)
    labels = torch.randint(0, 4, (1200,))
    scalars = dense_probe(colour_boxes).score(torch.randn(1200, 8), labels, images)
    assert scalars['chance'] == 1 / 4
    assert scalars['acc'] == pytest.approx(1 / 4, abs=0.06)


def test_dense_probe_reads_boxes_as_a_detector_does(colour_boxes, tiny_config, build):
    """RoIAlign on the level of the box's size: below 112 pixels P2, below 224 P3."""
    model, probe = build(tiny_config).eval(), dense_probe(colour_boxes)
    probe.before_run(FakeRunner(model))
    boxes = np.array([[10, 10, 60, 70], [0, 0, 200, 180]], np.float32)
    image = torch.randint(0, 256, (3, 200, 230), dtype=torch.uint8)
    item = dict(image=image, gt_bboxes=boxes, gt_labels=np.array([4, 2]))
    with torch.no_grad():
        ((features, labels),) = probe.embed(model, [item])
        padded = F.pad(normalise(model, image[None]), (0, 26, 0, 24))
        maps = model.extract_feat(padded)
    assert labels.tolist() == [4, 2]
    for feature, box, level in zip(features, boxes, (0, 1)):
        expected = roi_align(
            maps[level], [torch.from_numpy(box[None])], 7, 1 / 2 ** (level + 2), 0, aligned=True
        )
        torch.testing.assert_close(feature, expected.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
