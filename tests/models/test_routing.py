"""What passes the network together changes batches of batch norm, and nothing else."""

import pytest
import torch
from mmengine.logging import MMLogger

from tiny_models import prepare, total


@pytest.mark.parametrize('joint', ['all', 'backbone', 'none'])
def test_embeddings_belong_to_their_tiles(group_norm_config, build, views, joint):
    """Slow reference: each level's sheets alone through the network, cell by cell."""
    model = build(dict(group_norm_config, joint=joint)).double().eval()
    q, _ = prepare(model, views(8))
    embedded = model.embed_tiles(q)
    for level, sheets in enumerate(q.sheets):
        assert embedded[level].shape == (len(q.sources[level]), 8)
        expected = model.neck(model.backbone(sheets))[level]
        torch.testing.assert_close(embedded[level], expected)
    images = model.target.neck(model.target.backbone(q.sheets[0]), [0])[0]
    torch.testing.assert_close(model.embed_images(q), images)


def test_what_is_joint_changes_neither_losses_nor_gradients_without_batch_norm(
    group_norm_config, build, views
):
    results = []
    for joint in ('all', 'backbone', 'none'):
        model = build(dict(group_norm_config, joint=joint)).double().train()
        torch.manual_seed(1)
        losses = model.loss(prepare(model, views(8)))
        total(losses).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((losses, gradients))
    (dense, dense_gradients), *others = results
    for losses, gradients in others:
        torch.testing.assert_close(losses, dense, rtol=1e-9, atol=1e-9)
        assert gradients.keys() == dense_gradients.keys()
        torch.testing.assert_close(gradients, dense_gradients, rtol=1e-6, atol=1e-9)


def test_a_joint_backbone_has_the_published_batches_and_the_rest_its_own(tiny_config, build, views):
    """What a batch of batch norm holds, by the running statistics of a first step."""
    statistics = {}
    for joint in ('all', 'backbone', 'none'):
        model = build(dict(tiny_config, joint=joint)).double().train()
        q, _ = prepare(model, views(8))
        model.embed_tiles(q)
        model.embed_images(q)
        statistics[joint] = {n: b for n, b in model.named_buffers() if 'running' in n}
    for name, value in statistics['all'].items():
        if name.startswith(('backbone.', 'target.backbone.')):
            assert torch.allclose(statistics['backbone'][name], value), name
            assert not torch.allclose(statistics['none'][name], value), name
    for part in ('', 'target.'):
        name = f'{part}neck.projector.convs.0.bn.running_mean'
        assert not torch.allclose(statistics['backbone'][name], statistics['all'][name])


@pytest.mark.parametrize(('routed', 'joint'), [(True, 'none'), (False, 'all')])
def test_configs_that_say_routed_go_on_working(tiny_config, build, caplog, routed, joint):
    """Also on top of a config that says `joint`, which they knew nothing of."""
    logger = MMLogger.get_instance('routed', log_level='WARNING')
    logger.addHandler(caplog.handler)
    assert build(dict(tiny_config, joint='backbone', routed=routed)).joint == joint
    (said,) = {r.getMessage() for r in caplog.records if 'routed' in r.getMessage()}
    assert f'joint={joint!r} for routed={routed}' in said


def test_tiles_that_are_not_pasted_are_images_of_their_own(group_norm_config, build, views):
    """Each is embedded from one cell of its level's map, whatever the others show."""
    montage = dict(type='mcl_mm.MontageTransform', pasted=False)
    group_norm_config['data_preprocessor']['montage'] = montage
    with pytest.raises(ValueError, match="joint='none'"):
        build(group_norm_config)
    model = build(dict(group_norm_config, joint='none')).train()
    q, k = prepare(model, views(8))
    assert [tuple(sheets.shape[::3]) for sheets in q.sheets] == [
        (8, 64),
        (8, 32),
        (16, 16),
        (64, 8),
    ]
    embedded = model.embed_tiles(q)
    assert [len(e) for e in embedded.values()] == [len(source) for source in q.sources]
    changed = q._replace(sheets=tuple(torch.cat([s[:1], 0 * s[1:]]) for s in q.sheets))
    for before, after in zip(embedded.values(), model.embed_tiles(changed).values()):
        torch.testing.assert_close(before[0], after[0], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(before[1], after[1])
    total(model.loss((q, k))).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_unknown_part_to_be_joint(tiny_config, build):
    with pytest.raises(ValueError, match="one of 'all', 'backbone', 'none', got 'neck'"):
        build(dict(tiny_config, joint='neck'))
