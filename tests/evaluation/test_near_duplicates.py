"""Pairs and choices against slow references."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mcl_mm.evaluation import near_duplicates as module
from mcl_mm.evaluation.near_duplicates import near_duplicates, spread_out


def draw(count: int, length: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, length, generator=generator), dim=1)


def slow_pairs(embeddings, threshold):
    vectors = embeddings.double().numpy()
    found = []
    for i in range(len(vectors)):
        for j in range(i + 1, len(vectors)):
            cosine = round(float(vectors[i] @ vectors[j]), 5)
            if cosine >= threshold:
                found.append((-cosine, i, j))
    return sorted(found)


@pytest.mark.parametrize('block', [1, 3, 7, 1024])
@pytest.mark.parametrize('threshold', [-1, 0.5, 0.9])
def test_pairs_are_those_of_two_loops_whatever_the_blocks(monkeypatch, block, threshold):
    monkeypatch.setattr(module, 'BLOCK', block)
    embeddings = draw(20)
    expected = slow_pairs(embeddings, threshold)
    pairs = near_duplicates(embeddings, threshold)
    assert pairs.found == len(expected) > 0
    assert sorted(map(tuple, pairs.places.tolist())) == sorted((i, j) for _, i, j in expected)
    assert pairs.similarity.tolist() == pytest.approx(
        [-cosine for cosine, _, _ in expected], abs=2e-5
    )
    assert (np.diff(pairs.similarity) <= 0).all()


def test_copies_have_similarity_1_and_come_first():
    """Exactly, at the length of a real embedding; a threshold of 1 finds them and nothing else."""
    embeddings = draw(30, 2048)
    embeddings[[7, 29]] = embeddings[3].clone()
    pairs = near_duplicates(embeddings, 1.0)
    assert pairs.places.tolist() == [[3, 7], [3, 29], [7, 29]]
    assert pairs.similarity.tolist() == [1, 1, 1]


def test_only_so_many_pairs_are_held_the_most_alike(monkeypatch):
    """Also of a set in which all are the same, whose pairs are all above any threshold."""
    monkeypatch.setattr(module, 'BLOCK', 4)
    embeddings = draw(25)
    everything = near_duplicates(embeddings, -1)
    some = near_duplicates(embeddings, -1, most=10)
    assert (some.found, len(some.places)) == (25 * 24 // 2, 10)
    assert np.array_equal(some.places, everything.places[:10])
    same = near_duplicates(embeddings[:1].expand(25, -1), 0.9, most=3)
    assert same.found == 25 * 24 // 2
    assert same.places.tolist() == [[0, 1], [0, 2], [0, 3]]


def test_no_pairs():
    pairs = near_duplicates(torch.eye(3), 0.5)
    assert (pairs.found, pairs.places.shape, len(pairs.similarity)) == (0, (0, 2), 0)


@pytest.mark.parametrize('threshold', [1.5, -2, float('nan')])
def test_a_threshold_is_a_cosine(threshold):
    with pytest.raises(ValueError, match='must lie in'):
        near_duplicates(torch.eye(3), threshold)


def slow_choice(embeddings, count):
    vectors = embeddings.double().numpy()
    mean = vectors.mean(axis=0)
    chosen = [max(range(len(vectors)), key=lambda i: vectors[i] @ mean)]
    while len(chosen) < count:
        rest = [i for i in range(len(vectors)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: max(vectors[i] @ vectors[c] for c in chosen)))
    return chosen


@pytest.mark.parametrize('count', [1, 5, 40])
def test_choice_is_that_of_the_definition(count):
    embeddings = draw(40, seed=1)
    assert spread_out(embeddings, count) == slow_choice(embeddings, count)


def test_one_image_of_each_cluster_before_a_second_of_any():
    centres = torch.eye(6)
    embeddings = F.normalize(centres.repeat(5, 1) + 0.05 * draw(30, 6), dim=1)
    chosen = spread_out(embeddings, 6)
    assert {place % 6 for place in chosen} == set(range(6))


def test_all_of_a_set_of_copies_are_chosen_once():
    assert sorted(spread_out(torch.eye(3)[[0, 0, 0, 1]], 4)) == [0, 1, 2, 3]


def test_no_more_than_there_are():
    with pytest.raises(ValueError, match='5 images cannot be chosen from 3'):
        spread_out(torch.eye(3), 5)
