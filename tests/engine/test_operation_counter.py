"""What is counted is what is computed."""

import contextlib

import pytest
import torch

from mcl_mm.engine.operation_counter import operation_counter


@pytest.mark.parametrize('groups', [1, 4])
@pytest.mark.parametrize('conv', [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
def test_gradients_of_a_conv_cost_what_it_costs(conv, groups):
    """One multiply-add for each weight of a group and each place it is applied at, three times."""
    layer = conv(8, 12, 3, stride=2, groups=groups, bias=False, device='meta')
    maps = torch.empty(5, 8, 9, 11, device='meta', requires_grad=True)
    with operation_counter() as counter:
        out = layer(maps)
        out.sum().backward()
    places = (out if conv is torch.nn.Conv2d else maps)[:, 0].numel()
    assert counter.get_total_flops() == 3 * 2 * places * layer.weight.numel()


def test_counting_changes_no_bit(tiny_config, build, views):
    gradients = []
    for counter in (contextlib.nullcontext(), operation_counter()):
        model = build(tiny_config).train()
        with counter:
            data = model.data_preprocessor(dict(inputs=views(8)), True)
            model.parse_losses(model(**data, mode='loss'))[0].backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) > 50
    for one, other in zip(*gradients):
        assert torch.equal(one, other)
