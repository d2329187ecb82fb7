"""Pictures of two recipes can be compared: the same images in the same places."""

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from conftest import ROOT, call_tool
from mcl_mm.evaluation.montage_picture import build_montage

CONFIGS = [str(ROOT / f'configs/mcl_r50_100e{variant}.py') for variant in ('', '_fast')]


def build(path, folder, seed=0):
    cfg = Config.fromfile(path)
    cfg.train_dataloader.dataset.data_root = str(folder)
    before = cfg.model.data_preprocessor.to_dict()
    with DefaultScope.overwrite_default_scope('mmengine'):
        sides = build_montage(cfg, 8, seed)
    assert cfg.model.data_preprocessor.to_dict() == before
    return sides


def test_both_recipes_put_the_same_images_in_the_same_places(image_folder):
    faithful, fast = (build(path, image_folder) for path in CONFIGS)
    for ours, theirs in zip(fast, faithful):
        for a, b in zip(ours.sources, theirs.sources):
            assert torch.equal(a, b)
        for a, b in zip(ours.sheets, theirs.sheets):
            assert (a.dtype, a.shape) == (torch.uint8, b.shape)
    again = build(CONFIGS[1], image_folder)
    assert all(torch.equal(a, b) for a, b in zip(again[0].sheets, fast[0].sheets))
    other = build(CONFIGS[1], image_folder, seed=1)
    assert not torch.equal(other[0].sheets[0], fast[0].sheets[0])


def test_colours_of_the_fast_recipe_are_augmented(image_folder):
    """What is drawn has gone through the device's part of the augmentation."""
    cfg = Config.fromfile(CONFIGS[1])
    off = dict(type='PhotometricAugmentation', jitter_prob=0, gray_prob=0, blur_prob=0)
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.model.data_preprocessor.photometric = [off, off]
    with DefaultScope.overwrite_default_scope('mmengine'):
        plain = build_montage(cfg, 8, 0)
    augmented = build(CONFIGS[1], image_folder)
    distance = (plain[0].sheets[0].float() - augmented[0].sheets[0].float()).abs()
    assert (distance.mean((1, 2, 3)) > 0.5).all()  # side q blurs every image


def test_one_picture_of_two_recipes(image_folder, monkeypatch, tmp_path):
    out = tmp_path / 'm.png'
    call_tool(monkeypatch, 'browse', *CONFIGS, out, '--batch-size', 4,
              '--cfg-options', f'train_dataloader.dataset.data_root={image_folder}')  # fmt: skip
    assert cv2.imread(str(out)).shape[:2] == (4 * (448 + 36 + 6), 4 * (448 + 12))


def test_a_picture_of_no_known_format_is_refused_before_it_is_drawn(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=r'm must end in \.png or \.jpg'):
        call_tool(monkeypatch, 'browse', CONFIGS[0], tmp_path / 'm')
