"""Three optimiser steps of the authors' implementation, reproduced in float64.

``tests/data/reference.json`` holds what their code computes with the weights and inputs rebuilt
here: losses, cosines, gradient norms, and parameter norms after LARS and the moving average.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.engine.optimizers import LARS

from mcl_mm.engine import cosine_momentum
from mcl_mm.registry import MODELS
from mcl_mm.transfer.formats.official import convert_official, rename_official

REFERENCE = json.loads((Path(__file__).parents[1] / 'data' / 'reference.json').read_text())


def official_tensor(name, shape):
    """The reference's weights: noise seeded by the name."""
    name = name.replace('encoder_k.', 'encoder_q.')
    name = 'encoder_q.0.' + name[9:] if name.startswith('backbone.') else name
    if name.endswith(('running_mean', 'num_batches_tracked')):
        return torch.zeros(shape, dtype=torch.float64)
    if name.endswith('running_var'):
        return torch.ones(shape, dtype=torch.float64)
    noise = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    noise = torch.from_numpy(noise.standard_normal(int(np.prod(shape))))
    if len(shape) == 1:
        return 0.1 * noise + (1 if name.endswith('weight') else 0)
    return (noise * np.sqrt(2 / np.prod(shape[1:]))).reshape(shape)


@pytest.fixture(scope='module')
def trained():
    """Run the three steps; return what each of them computed."""
    channels, hidden = REFERENCE['channels'], REFERENCE['hidden']
    model = MODELS.build(
        dict(
            type='mcl_mm.MCL',
            backbone=dict(
                type='mmpretrain.ResNet', depth=REFERENCE['depth'], out_indices=(0, 1, 2, 3)
            ),
            neck=dict(
                type='mcl_mm.MCLNeck',
                in_channels=[64, 128, 256, 512],
                out_channels=channels,
                hid_channels=hidden,
                embed_channels=channels,
            ),
            head=dict(
                type='mcl_mm.MultiLevelContrastiveHead', in_channels=channels, hid_channels=hidden
            ),
            data_preprocessor=dict(type='mcl_mm.MontageDataPreprocessor'),
        )
    )
    model.double().train()
    names = [name for name, _ in REFERENCE['state_dict_keys']]
    weights = {name: official_tensor(name, s) for name, s in REFERENCE['state_dict_keys']}
    model.load_state_dict(convert_official(weights).state_dict)
    parameters = dict(model.named_parameters())
    online = {
        name: parameters[rename_official(name)]
        for name in names
        if name.startswith(('encoder_q', 'head')) and rename_official(name) in parameters
    }
    # The reference leaves out by name, so the norms of `downsample.1` and `mlp.1` are adapted.
    groups = [
        dict(
            params=[p],
            lars_exclude='bn' in name or 'bias' in name,
            weight_decay=0 if 'bn' in name or 'bias' in name else 1e-5,
        )
        for name, p in online.items()
    ]
    optimizer = LARS(groups, lr=REFERENCE['lr'], momentum=0.9, weight_decay=1e-5, eta=1e-3, eps=0)

    results = []
    for index, step in enumerate(REFERENCE['steps']):
        shape = (REFERENCE['batch'], 8, 3, REFERENCE['side'], REFERENCE['side'])
        inputs = np.random.RandomState(step['input_seed']).standard_normal(shape)
        views = torch.from_numpy(inputs).unbind(1)
        sources = [
            [
                torch.arange(4),
                *(torch.tensor(step['source'][f'level{k}_{side}']) for k in (1, 2, 3)),
            ]
            for side in 'qk'
        ]
        montages = model.data_preprocessor.montage(views[:4], views[4:], sources=sources)
        losses = model.loss(montages)
        total = sum(value for key, value in losses.items() if key.startswith('loss'))
        optimizer.zero_grad()
        total.backward()
        gradients = {name: p.grad.norm().item() for name, p in online.items()}
        optimizer.step()
        momentum = cosine_momentum(0.99, index, REFERENCE['max_iters'])
        model.update_target(momentum)
        after = {name: p.norm().item() for name, p in online.items()}
        target = {n: parameters[f'target.{rename_official(n)}'] for n in step['target_after_step']}
        results.append(
            dict(
                losses={key: value.item() for key, value in losses.items()},
                total_loss=total.item(),
                momentum=momentum,
                grad_norm=gradients,
                grad_norm_total=np.linalg.norm(list(gradients.values())),
                after_step=after,
                target_after_step={n: p.norm().item() for n, p in target.items()},
                target_shift={n: (p - online[n]).norm().item() for n, p in target.items()},
            )
        )
    return results


@pytest.mark.parametrize('step', range(3))
def test_losses_and_cosines(trained, step):
    ours, theirs = trained[step], REFERENCE['steps'][step]
    assert ours['total_loss'] == pytest.approx(theirs['total_loss'], rel=1e-9)
    for name, value in theirs['losses'].items():
        if name != 'momentum':
            assert ours['losses'][name.replace('cos_dist', 'cos')] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize('step', range(3))
@pytest.mark.parametrize(
    'norm', ['grad_norm', 'after_step', 'target_after_step', 'target_shift', 'grad_norm_total']
)
def test_norms(trained, step, norm):
    ours, theirs = trained[step][norm], REFERENCE['steps'][step][norm]
    if norm != 'grad_norm_total':
        ours = {name: ours[name] for name in theirs}
        assert len(ours) >= 10
    assert ours == pytest.approx(theirs, rel=1e-7)


@pytest.mark.parametrize('step', range(3))
def test_momentum(trained, step):
    assert trained[step]['momentum'] == pytest.approx(
        REFERENCE['steps'][step]['momentum'], rel=1e-12
    )
