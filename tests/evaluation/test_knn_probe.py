"""The probe by nearest neighbours against slow references, and on colours."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mcl_mm.evaluation import KNNProbe, vote
from tiny_probes import COLOURS, FakeRunner, draw_colour_folders


@pytest.fixture
def colour_folders(tmp_path):
    return draw_colour_folders(tmp_path)


@pytest.mark.parametrize('leave_one_out', [False, True])
def test_votes_equal_slow_reference(leave_one_out):
    torch.manual_seed(0)
    bank = F.normalize(torch.randn(40, 6), dim=1)
    queries = bank if leave_one_out else F.normalize(torch.randn(30, 6), dim=1)
    labels = torch.randint(0, 5, (40,))
    answers = vote(queries, bank, labels, k=7, temperature=0.5, leave_one_out=leave_one_out)
    for i, query in enumerate(queries):
        scored = [
            ((query @ other).item(), label)
            for j, (other, label) in enumerate(zip(bank, labels.tolist()))
            if not (leave_one_out and i == j)
        ]
        ballot = dict.fromkeys(range(5), 0.0)
        for cosine, label in sorted(scored, reverse=True)[:7]:
            ballot[label] += np.exp(cosine / 0.5)
        assert answers[i].item() == max(ballot, key=ballot.get)


def test_votes_do_not_depend_on_how_queries_are_cut():
    torch.manual_seed(0)
    bank = F.normalize(torch.randn(1500, 4), dim=1)
    labels = torch.randint(0, 3, (1500,))
    answers = vote(bank, bank, labels, leave_one_out=True)
    cosine = (bank @ bank.t()).fill_diagonal_(-torch.inf)
    assert torch.equal(answers[1200], vote(bank[1200:1201], bank[cosine[1200].isfinite()],
                       labels[cosine[1200].isfinite()])[0])  # fmt: skip
    assert abs((answers == labels).float().mean() - 1 / 3) < 0.06  # features say nothing


def test_knn_probe_tells_colours_apart(colour_folders, tiny_config, build):
    probe = KNNProbe(str(colour_folders), side=64, k=4, num_workers=0, batch_size=4)
    runner = FakeRunner(build(tiny_config))
    scalars = probe.run(runner, step=3)
    assert scalars == dict(knn_acc=1.0, knn_chance=pytest.approx(1 / 3))
    assert runner.logged == [(3, scalars)]


def test_knn_probe_with_a_bank(colour_folders, tiny_config, build, tmp_path):
    """Neighbours come from the bank alone: with exchanged labels every answer is wrong."""
    for name, other in zip(COLOURS, ('green', 'blue', 'red')):
        (tmp_path / 'bank').mkdir(exist_ok=True)
        (tmp_path / 'bank' / name).symlink_to(colour_folders / other)
    probe = KNNProbe(str(colour_folders), str(tmp_path / 'bank'), 64, 4, num_workers=0)
    assert probe.run(FakeRunner(build(tiny_config)), 0)['knn_acc'] == 0
    right = KNNProbe(str(colour_folders), str(colour_folders), 64, 1, num_workers=0)
    assert right.run(FakeRunner(build(tiny_config)), 0)['knn_acc'] == 1


def test_unreadable_images_are_left_out(colour_folders, tiny_config, build):
    (colour_folders / 'red/0.png').write_text('text')
    probe = KNNProbe(str(colour_folders), side=64, k=3, num_workers=0)
    assert probe.run(FakeRunner(build(tiny_config)), 0)['knn_chance'] == pytest.approx(5 / 14)
