"""The loss against closed forms and a slow reference."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mcl_mm.models import MultiLevelContrastiveHead
from mcl_mm.models.multi_level_contrastive_head import gather_targets
from processes import run_ranks


@pytest.fixture
def head():
    """Four levels whose predictors change nothing, so that predictions are the inputs."""
    head = MultiLevelContrastiveHead(in_channels=8, hid_channels=8, temperature=0.5)

    class Same(nn.Module):
        def forward(self, x):
            return x

    head.predictors = nn.ModuleList(Same() for _ in range(4))
    return head


def both_sides(head, online, sources, targets):
    """The losses of q against the targets of k, and of k against those of q."""
    z_q, z_k = gather_targets(targets)
    return {
        **head.loss(dict(enumerate(online[0])), sources[0], z_k, 'q'),
        **head.loss(dict(enumerate(online[1])), sources[1], z_q, 'k'),
    }


def test_equals_slow_reference(head):
    torch.manual_seed(0)
    online = [[torch.randn(12, 8) for _ in range(4)] for _ in 'qk']
    sources = [[torch.randint(0, 5, (12,)) for _ in range(4)] for _ in 'qk']
    targets = torch.randn(5, 8), torch.randn(5, 8)
    losses = both_sides(head, online, sources, targets)
    for side, name in enumerate('qk'):
        for level, weight in enumerate((1 / 2, 1 / 4, 1 / 8, 1 / 8)):
            total = positive = negative = found = 0.0
            for x, source in zip(online[side][level], sources[side][level].tolist()):
                cosine = [F.cosine_similarity(x, z, dim=0).item() for z in targets[1 - side]]
                scores = [math.exp(c / 0.5) for c in cosine]
                total -= math.log(scores[source] / sum(scores)) / 12
                positive += cosine[source] / 12
                negative += (sum(cosine) - cosine[source]) / 4 / 12
                found += (cosine.index(max(cosine)) == source) / 12
            key = f'{name}_level_{level}'
            assert losses[f'loss_{key}'].item() == pytest.approx(2 * 0.5 * weight * total, rel=1e-5)
            assert losses[f'pos_cos_{key}'].item() == pytest.approx(positive, abs=1e-6)
            assert losses[f'neg_cos_{key}'].item() == pytest.approx(negative, abs=1e-6)
            assert losses[f'acc_{key}'].item() == pytest.approx(found, abs=1e-6)


def test_closed_form_of_perfect_predictions():
    """Orthogonal targets, each met exactly: the loss is ln(e + B - 1) - 1 a side and level."""
    head = MultiLevelContrastiveHead(in_channels=8)
    target = F.normalize(torch.eye(8), dim=1)
    out = head.contrast(3 * target, torch.arange(8), target)
    assert out['loss'].item() == pytest.approx(2 * (math.log(math.e + 7) - 1), rel=1e-6)
    assert (out['pos_cos'].item(), out['neg_cos'].item(), out['acc'].item()) == (1, 0, 1)
    shuffled = head.contrast(3 * target, torch.arange(8).flip(0), target)
    assert shuffled['acc'].item() == 0


def test_blind_predictions_lose_log_of_the_number_of_targets():
    """Published sanity value: weights 1/2 + 1/4 + 1/8 + 1/8, 2T: 2 ln(B) a side."""
    head = MultiLevelContrastiveHead(in_channels=8)
    head.predictors = nn.ModuleList(nn.Identity() for _ in range(4))
    target = torch.ones(32, 8)
    (target,) = gather_targets([target])
    losses = head.loss(dict.fromkeys(range(4), target), [torch.arange(32)] * 4, target, 'q')
    total = sum(value for key, value in losses.items() if key.startswith('loss'))
    assert total.item() == pytest.approx(2 * math.log(32), rel=1e-6)


def test_without_negatives_a_tile_is_pulled_to_its_own_image_only():
    """2 - 2 cos, times the weight of the level: 0 where they agree, 2 where they are orthogonal."""
    head = MultiLevelContrastiveHead(in_channels=8, negatives=False)
    z = torch.eye(8)
    for predicted, loss in ((3 * z, 0), (z.roll(1, 0), 2), (-z, 4)):
        out = head.contrast(predicted, torch.arange(8), z)
        assert out['loss'].item() == pytest.approx(loss, abs=1e-6)
    x = torch.randn(8, 8, requires_grad=True)
    before = torch.autograd.grad(head.contrast(x, torch.arange(8), z)['loss'], x)[0]
    others = z.clone()
    others[1:] = torch.randn(7, 8)  # only the images of other tiles change
    after = torch.autograd.grad(head.contrast(x, torch.arange(8), others)['loss'], x)[0]
    torch.testing.assert_close(before[0], after[0])
    assert {'pos_cos', 'neg_cos', 'acc'} < out.keys()


def test_a_shared_predictor_is_one():
    torch.manual_seed(0)
    head = MultiLevelContrastiveHead(in_channels=8, hid_channels=8, shared_predictor=True)
    apart = MultiLevelContrastiveHead(in_channels=8, hid_channels=8)
    for predictor in apart.predictors:
        predictor.load_state_dict(head.predictors[0].state_dict())
    online = {level: torch.randn(6, 8) for level in range(4)}
    sources, target = [torch.arange(6)] * 4, F.normalize(torch.randn(6, 8), dim=1)
    for one in (head, apart):
        losses = one.loss(online, sources, target, 'q')
        sum(value for key, value in losses.items() if key.startswith('loss')).backward()
    assert len(list(head.parameters())) * 4 == len(list(apart.parameters()))
    for name, p in head.predictors[0].named_parameters():
        parts = [predictor.get_parameter(name).grad for predictor in apart.predictors]
        torch.testing.assert_close(p.grad, sum(parts))


def test_scale_of_embeddings_does_not_matter(head):
    x, z = torch.randn(6, 8), torch.randn(6, 8)
    source = torch.arange(6)
    z = F.normalize(z, dim=1)
    torch.testing.assert_close(head.contrast(x, source, z), head.contrast(7 * x, source, z))


def test_no_gradient_reaches_the_targets(head):
    online = [[torch.randn(4, 8, requires_grad=True) for _ in range(4)] for _ in 'qk']
    targets = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    losses = both_sides(head, online, [[torch.arange(4)] * 4] * 2, targets)
    sum(value for key, value in losses.items() if key.startswith('loss')).backward()
    assert all(x.grad.abs().sum() > 0 for side in online for x in side)
    assert all(z.grad is None for z in targets)
    assert not any(v.requires_grad for k, v in losses.items() if 'cos' in k)


def test_half_precision_inputs_are_compared_in_float32(head):
    out = head.contrast(torch.randn(4, 8).bfloat16(), torch.arange(4), torch.eye(8)[:4].bfloat16())
    assert out['loss'].dtype == torch.float32


def test_one_image_has_no_negatives(head):
    out = head.contrast(torch.randn(3, 8), torch.zeros(3, dtype=torch.long), torch.randn(1, 8))
    assert out['loss'].item() == 0
    assert out['neg_cos'].item() == 0


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match='temperature must be positive, got 0'):
        MultiLevelContrastiveHead(temperature=0)


def test_predictors_initialise_as_published():
    torch.manual_seed(0)
    head = MultiLevelContrastiveHead()
    head.init_weights()
    for predictor in head.predictors:
        for fc in (predictor.fc0, predictor.fc1):
            assert fc.weight.std().item() == pytest.approx(0.01, rel=0.01)
            assert not fc.bias.any()


def _one_rank(rank):
    targets = torch.eye(8)[4 * rank : 4 * rank + 4]
    gathered = gather_targets((targets, -targets))
    head = MultiLevelContrastiveHead(in_channels=8)
    out = head.contrast(targets[[2, 0]], torch.tensor([2, 0]), gathered[0])
    return gathered[0].numpy(), gathered[1].numpy(), out['pos_cos'].item()


def test_two_processes_gather_in_order_of_rank_and_shift_their_labels(free_port):
    for z_q, z_k, positive in run_ranks(_one_rank, 2, free_port):
        assert torch.equal(torch.from_numpy(z_q), torch.eye(8))
        assert torch.equal(torch.from_numpy(z_k), -torch.eye(8))
        assert positive == 1  # only with labels shifted by rank * 4
