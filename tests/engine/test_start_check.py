"""What cannot be trained on is refused before training."""

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader

from mcl_mm.engine.start_check import check_batches


def loader_of(images, batch_size, sampler=DefaultSampler, **kwargs):
    """A loader of samples of eight views."""
    dataset = [dict(inputs=[torch.zeros(3, 32, 32, dtype=torch.uint8)] * 8)] * images
    return DataLoader(dataset, batch_size, sampler=sampler(dataset), **kwargs)


def test_last_batch_of_one_image(tiny_config, build):
    model = build(tiny_config)
    with pytest.raises(ValueError, match='last batch would hold one image.*drop_last=True'):
        check_batches(loader_of(9, 4), model)
    check_batches(loader_of(10, 4), model)
    check_batches(loader_of(9, 4, drop_last=True), model)
    check_batches(loader_of(9, 4, InfiniteSampler), model)


def test_montage_that_does_not_fit_the_last_batch(tiny_config, build):
    tiny_config['data_preprocessor']['montage'] = dict(
        type='mcl_mm.MontageTransform', num_sheets=(4, 1, 1, 1)
    )
    model = build(tiny_config)
    check_batches(loader_of(8, 4), model)
    with pytest.raises(ValueError, match='level 0 shows the 2 images'):
        check_batches(loader_of(10, 4), model)
    check_batches(loader_of(10, 4, drop_last=True), model)
