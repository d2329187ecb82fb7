"""A peer derived from an MCL run is what the shipped ones of its size are."""

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope

from conftest import ROOT, draw_images
from mcl_mm.evaluation.methods import prepare_all
from mcl_mm.evaluation.peers import derive_peer
from mcl_mm.registry import DATASETS, MODELS


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    draw_images(folder / 'ants', 6)
    draw_images(folder / 'bees', 6, seed=1)
    return folder


def short(value):
    """A config's part without scopes, and with lists for tuples."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items() if k not in ('_scope_', 'init_cfg')}
    if isinstance(value, (list, tuple)):
        return [short(v) for v in value]
    return value.split('.')[-1] if isinstance(value, str) else value


@pytest.mark.parametrize('name', ['mocov2', 'densecl', 'byol', 'supervised'])
def test_the_quickstart_has_the_peers_that_are_derived_from_it(name, images):
    mcl = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py')
    before = mcl.to_dict()
    peer = derive_peer(mcl, name, str(images))
    assert mcl.to_dict() == before
    shipped = Config.fromfile(ROOT / f'configs/quickstart/{name}.py')
    ours, theirs = short(peer.model.to_dict()), short(shipped.model.to_dict())
    backbone, made = theirs.pop('backbone'), ours.pop('backbone')
    for config in (backbone, made):  # True is what MMEngine takes where nothing is said
        config.get('norm_cfg', {}).pop('requires_grad', None)
    assert {k: made[k] for k in backbone if k != 'out_indices'} == {
        k: v for k, v in backbone.items() if k != 'out_indices'
    }
    assert made['out_indices'] == [3]
    if 'queue_len' in theirs:  # here one step of 64 images is more than half of all 12
        assert (ours.pop('queue_len'), theirs.pop('queue_len')) == (64, 512)
    if name == 'supervised':
        assert ours['head'].pop('num_classes') == ours['data_preprocessor'].pop('num_classes') == 2
        assert ours['head'].pop('topk') == [1]
        for part in ('head', 'data_preprocessor'):
            theirs[part].pop('num_classes')
        theirs['head'].pop('topk')
    assert ours == theirs
    for part in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'default_hooks'):
        assert peer[part] == shipped[part]
    pipelines = (cfg.train_dataloader.dataset.pipeline for cfg in (peer, shipped))
    assert short(next(pipelines)) == short(next(pipelines))


@pytest.mark.parametrize('name', ['mocov2', 'densecl', 'byol', 'supervised'])
def test_a_peer_of_a_recipe_at_native_size_trains(name, images):
    """Published views at its own side; finite losses."""
    mcl = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py')
    mcl.train_dataloader.batch_size = 4
    mcl.model.neck.embed_channels = 32
    peer = derive_peer(mcl, name, str(images))
    peer.train_dataloader.dataset.data_root = str(images)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        dataset = DATASETS.build(peer.train_dataloader.dataset)
        model = MODELS.build(peer.model)
        data = model.data_preprocessor(default_collate([dataset[i] for i in range(4)]), True)
        views = data['inputs'] if isinstance(data['inputs'], list) else [data['inputs']]
        assert {view.shape for view in views} == {torch.Size([4, 3, 64, 64])}
        losses = model(**data, mode='loss')
    assert all(torch.isfinite(loss).all() for loss in losses.values())


def test_names_of_methods_stand_for_peers_of_the_first_config(images, tmp_path):
    base = ROOT / 'configs/quickstart/pretrain.py'
    (tmp_path / 'mine.py').write_text(
        f'_base_ = {str(base)!r}\ntrain_dataloader = dict(batch_size=4)\n'
        'train_cfg = dict(max_iters=10)\n'
    )
    methods = prepare_all([str(tmp_path / 'mine.py'), 'mocov2', 'supervised'], str(images), gpus=2)
    assert [method.name for method in methods] == ['mine', 'mocov2', 'supervised']
    assert {method.images for method in methods} == {2 * 4 * 10}  # on both processes
    assert methods[1].cfg.model.queue_len == 8
    assert 0 < methods[2].cost < methods[1].cost < methods[0].cost
    with pytest.raises(ValueError, match='derived from the first method'):
        prepare_all(['byol'], str(images))
    with pytest.raises(ValueError, match=r'derived from an MCL config, which .*mocov2\.py is not'):
        derive_peer(Config.fromfile(ROOT / 'configs/quickstart/mocov2.py'), 'byol', str(images))


def test_a_peer_reads_the_images_of_the_run_alone(images, tmp_path):
    """Its queue and its classes are those of the list, not of the folder."""
    mcl = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py')
    mcl.train_dataloader.batch_size = 2
    (tmp_path / 'list.txt').write_text(
        'ants/0000.jpg\nants/0001.jpg\nants/0002.jpg\nants/0003.jpg\n'
    )
    assert derive_peer(mcl, 'mocov2', str(images)).model.queue_len == 6
    mcl.train_dataloader.dataset.ann_file = str(tmp_path / 'list.txt')
    assert derive_peer(mcl, 'mocov2', str(images)).model.queue_len == 2
    (tmp_path / 'labels.txt').write_text('ants/0000.jpg 0\nants/0001.jpg 1\nbees/0001.jpg 2\n')
    mcl.train_dataloader.dataset.ann_file = str(tmp_path / 'labels.txt')
    assert derive_peer(mcl, 'supervised', str(images)).model.head.num_classes == 3


def test_a_queue_of_any_batch_is_counted(images, tmp_path, monkeypatch):
    """The cost is counted on eight samples, which five of a step do not divide."""
    base = ROOT / 'configs/quickstart/pretrain.py'
    (tmp_path / 'mine.py').write_text(
        f'_base_ = {str(base)!r}\ntrain_dataloader = dict(batch_size=5)\ntrain_cfg = dict(max_iters=2)\n'
    )
    (tmp_path / 'mocov2').mkdir()  # a folder is no config
    monkeypatch.chdir(tmp_path)
    mine, peer = prepare_all(['mine.py', 'mocov2'], str(images))
    assert peer.cfg.model.queue_len == 5
    assert peer.cfg.train_cfg.max_iters == mine.cfg.train_cfg.max_iters
