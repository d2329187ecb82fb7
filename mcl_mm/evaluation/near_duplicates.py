"""Which images are nearly the same, and which are as different as can be, by their embeddings."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024  # embeddings whose cosines are held at once, times themselves
MOST_PAIRS = 100_000
DIGITS = 5  # of a cosine; float32 rounds the last two of its seven, differently in each batch


class Pairs(NamedTuple):
    """Pairs of images, most alike first; equal ones by their places.

    Attributes:
        places (np.ndarray): Of both images, ``(P, 2)``, int64, the smaller one first.
        similarity (np.ndarray): Their cosines, ``(P,)``, float32, rounded to five digits.
        found (int): Pairs above the threshold; more than ``P`` if some were dropped.
    """

    places: np.ndarray
    similarity: np.ndarray
    found: int


def near_duplicates(embeddings: Tensor, threshold: float, most: int = MOST_PAIRS) -> Pairs:
    """All pairs of images whose cosine similarity is at least ``threshold``.

    Memory does not grow with the number of pairs: cosines are computed in blocks, and no more than
    ``most`` pairs and those of one block are held.

    Args:
        embeddings (Tensor): ``(N, D)``, float32, l2-normalised.
        threshold (float): Of the cosine, in [-1, 1].
        most (int): Pairs to keep, the most alike. Defaults to 100,000.

    Raises:
        ValueError: ``threshold`` is no cosine.
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f'the threshold is a cosine and must lie in [-1, 1], got {threshold}')
    kept, similarity, found = np.empty((0, 2), np.int64), np.empty(0, np.float32), 0
    for top in range(0, len(embeddings), BLOCK):
        for left in range(top, len(embeddings), BLOCK):
            cosine = embeddings[top : top + BLOCK] @ embeddings[left : left + BLOCK].t()
            cosine = cosine.round(decimals=DIGITS).clamp_(-1, 1)
            alike = cosine >= threshold
            if left == top:  # each pair once, no image with itself
                alike = alike.triu(1)
            places = alike.nonzero()
            found += len(places)
            places += places.new_tensor([top, left])
            kept = np.concatenate([kept, places.cpu().numpy()])
            similarity = np.concatenate([similarity, cosine[alike].cpu().numpy()])
            if len(kept) > most:
                kept, similarity = most_alike(kept, similarity, most)
    return Pairs(*most_alike(kept, similarity, most), found)


def most_alike(
    places: np.ndarray, similarity: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first pairs in the order of :class:`Pairs`."""
    order = np.lexsort((places[:, 1], places[:, 0], -similarity))[:most]
    return places[order], similarity[order]


def spread_out(embeddings: Tensor, count: int) -> list[int]:
    """Images that leave no other one far away: greedy k-centre choice.

    The first is the one nearest to the mean; each next one is the least similar to those chosen
    (`Active Learning for Convolutional Neural Networks: A Core-Set Approach
    <https://arxiv.org/abs/1708.00489>`_, algorithm 1).

    Args:
        embeddings (Tensor): ``(N, D)``, float32, l2-normalised.
        count (int): Images to choose, at most ``N``.

    Returns:
        list[int]: Their places, in the order of choice: its beginning is a choice of fewer.

    Raises:
        ValueError: There are fewer images, or ``count`` is below 1.
    """
    if not 1 <= count <= len(embeddings):
        raise ValueError(f'{count} images cannot be chosen from {len(embeddings)}')
    chosen = [int((embeddings @ embeddings.mean(dim=0)).argmax())]
    nearest = torch.full_like(embeddings[:, 0], -torch.inf)  # cosine to the nearest chosen one
    while len(chosen) < count:
        nearest = torch.maximum(nearest, embeddings @ embeddings[chosen[-1]])
        nearest[chosen[-1]] = torch.inf  # never again, also among copies
        chosen.append(int(nearest.argmin()))
    return chosen
