"""Configs are short to read: few bases, parts by name, and three lines that say what, how and how much."""

import ast
import os
import re
from functools import cache

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from conftest import ROOT
from mcl_mm.config import find_config, recipes
from mcl_mm.evaluation.cost import multiply_adds, multiply_adds_of_peer, side_settings
from mcl_mm.registry import MODELS

CONFIGS = ROOT / 'configs'
FILES = sorted(CONFIGS.rglob('*.py'))
RECIPES = list(recipes())
PRETRAINING = [
    name
    for name in RECIPES
    if name.split('/')[0]
    in ('ablations', 'backbones', 'channels', 'distill', 'peers', 'quickstart')
    or '/' not in name
    if not re.search('mask-rcnn|retinanet|finetune', name)
]
COMMANDS = re.compile(
    r'mcl-mm train (\S+)|dist_train\.sh (\S+)|tools/train\.py (\S+)|--methods (.+?) --'
)


def header(name):
    lines = (CONFIGS / f'{name}.py').read_text().splitlines()
    return lines[: next(i for i, line in enumerate(lines) if not line.startswith('#'))]


def bases(path):
    """Files of this project that a config names as its bases; those of MMDetection have `::`."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == '_base_':
            named = ast.literal_eval(statement.value)
            for base in [named] if isinstance(named, str) else named:
                if '::' not in base:
                    yield (path.parent / base).resolve()


def depth(path):
    return 1 + max(map(depth, bases(path)), default=0)


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_a_config_has_a_base_of_a_base_and_no_more(path):
    """MMDetection's own bases do not count."""
    assert depth(path) <= 3


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_parts_are_taken_by_name(path):
    """No list is changed by a number: a base may gain a part, and names stay right."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Subscript):
            assert not isinstance(node.slice, ast.Constant) or isinstance(node.slice.value, str), (
                ast.unparse(node)
            )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in ('insert', 'pop'), ast.unparse(node)


@pytest.mark.parametrize('name', RECIPES)
def test_header_says_what_it_is_how_to_start_it_and_what_it_takes(name):
    what, start, cost = header(name)
    assert len(what) > 20
    named = [group for match in COMMANDS.finditer(start) for group in match.groups() if group]
    if start != '# mcl-mm quickstart':
        assert f'{CONFIGS / name}.py' in map(find_config_of_checkout, ' '.join(named).split())
    assert re.search(r'\d+ GPU|CPU', cost)


def find_config_of_checkout(name):
    """By its name, as the commands find it; from a checkout that is the file in `configs/`."""
    path = ROOT / name if name.startswith('configs/') else find_config(name)
    return str(path).replace(str(ROOT / 'mcl_mm/.mim'), str(ROOT))


def test_no_sentence_stands_in_many_headers():
    sentences = [s for name in RECIPES for s in re.split(r'(?<=[.:]) +', header(name)[2][2:])]
    plain = [s for s in sentences if not re.search(r'\d', s)]
    assert max(map(plain.count, plain)) <= 6


@pytest.mark.parametrize('name', RECIPES)
def test_header_has_the_batch_and_the_length_of_the_config(name):
    cost, cfg = header(name)[2], Config.fromfile(CONFIGS / f'{name}.py')
    if images := re.search(r'GPUs? x (\d+) image|CPU cores[\w, ]*: (\d+) images', cost):
        assert int(images[1] or images[2]) == cfg.train_dataloader.batch_size
    if length := re.search(r'(\d+) (epoch|iteration)s', cost):
        key = dict(epoch='max_epochs', iteration='max_iters')[length[2]]
        assert int(length[1]) == cfg.train_cfg[key]
    assert name in (
        'quickstart/pretrain',
        'quickstart/pretrain_published',
        'quickstart/finetune',
    ) or (images and length)


def weights(name):
    """A recipe's network, as it is built; of detectors the shapes alone, which takes less time."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    scope = cfg.get('default_scope', 'mcl_mm')
    with (
        torch.device('meta' if scope == 'mmdet' else 'cpu'),
        DefaultScope.overwrite_default_scope(scope),
    ):
        return MODELS.build(cfg.model)


@pytest.mark.usefixtures('quick_weights')
@pytest.mark.parametrize('name', RECIPES)
def test_header_has_the_bytes_of_the_weights(name):
    if listed := re.search(r'([\d.]+) MB of weights', header(name)[2]):
        size = sum(value.nbytes for value in weights(name).state_dict().values()) / 1e6
        assert size == pytest.approx(float(listed[1]), abs=rounding(listed[1]))


def rounding(number):
    """Half of the last digit of a number in a text."""
    return 0.51 * 10.0 ** -len(number.partition('.')[2])


@pytest.mark.parametrize('name', PRETRAINING)
def test_header_has_the_multiply_adds(name):
    """As the function counts them, 32 images a step. All take minutes."""
    few = ('distill/', 'quickstart/', 'peers/', 'mcl_r50_100e_fast')
    if not name.startswith(few) and 'MCL_MM_COUNT_ALL' not in os.environ:
        pytest.skip('set MCL_MM_COUNT_ALL=1 to count every recipe')
    listed = re.search(r'([\d.]+) G multiply-adds an image', header(name)[2])
    if listed is None:
        assert 'minutes' in header(name)[2]
        return
    assert counted(name) / 1e9 == pytest.approx(float(listed[1]), abs=rounding(listed[1]))


def counted(name):
    """G multiply-adds of a recipe's step; what costs the same is counted once."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    (side,) = {part[key] for part, key in side_settings(cfg.train_dataloader.dataset.pipeline)}
    if 'MCL' in cfg.model.type:
        cfg.model.pop('channels_last', None)
        for key in ('photometric', 'non_blocking'):
            cfg.model.data_preprocessor.pop(key, None)
        return of_montages(repr(cfg.model.to_dict()), side)
    view = torch.zeros(3, side, side, dtype=torch.uint8)
    views = view if cfg.model.type == 'ImageClassifier' else [view, view]
    sample = dict(inputs=views, data_samples=DataSample().set_gt_label(0))
    return multiply_adds_of_peer(cfg.model, [sample] * 2)


@cache
def of_montages(model, side):
    return multiply_adds(ConfigDict(ast.literal_eval(model)), 32, side)[0]
