"""Gradients that are computed early are the same, in half of the memory."""

import pytest
import torch

from tiny_models import prepare, total


class Live:
    """A tensor kept for the backward pass; knows how many bytes are kept at a time."""

    bytes = peak = 0

    def __init__(self, tensor):
        self.tensor, self.size = tensor, tensor.nbytes
        Live.bytes += self.size
        Live.peak = max(Live.peak, Live.bytes)

    def __del__(self):
        Live.bytes -= self.size


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_early_backward_halves_what_is_kept_and_changes_no_gradient(
    tiny_config, build, views, joint
):
    results = []
    for early in (False, True):
        model = build(dict(tiny_config, joint=joint, early_backward=early)).double().train()
        Live.bytes = Live.peak = 0
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(Live, lambda live: live.tensor):
            losses = model.loss(prepare(model, views(8)))
            (3 * total(losses)).backward()  # as a loss scaler or accumulation does
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((losses, gradients, Live.peak))
    (losses, gradients, peak), (early_losses, early_gradients, early_peak) = results
    torch.testing.assert_close(early_losses, losses, rtol=0, atol=0)
    torch.testing.assert_close(early_gradients, gradients, rtol=1e-9, atol=1e-12)
    assert early_peak < (0.45 if joint == 'none' else 0.55) * peak


def test_early_backward_needs_no_gradients(tiny_config, build, views):
    model = build(dict(tiny_config, early_backward=True)).train()
    with torch.no_grad():
        losses = model.loss(prepare(model, views(4)))
    assert not total(losses).requires_grad


def test_early_backward_is_refused_where_a_loss_scaler_is_needed(tiny_config, build, views):
    model = build(dict(tiny_config, early_backward=True)).train()
    with torch.autocast('cpu', dtype=torch.float16), pytest.raises(ValueError, match='bfloat16'):
        model.loss(prepare(model, views(4)))
