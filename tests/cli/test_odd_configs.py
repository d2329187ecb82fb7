"""Configs that are none, or hold wrong values: every command says so in one sentence."""

import re

import pytest

from command_line import call
from conftest import SMALL, draw_images

COMMANDS = {
    'train': ['{config}'],
    'test': ['{config}', 'x.pth'],
    'browse': ['{config}', 'o.png'],
    'embed': ['{config}', 'x.pth', 'images', '--out', 'o.npz'],
    'benchmark': ['{config}', '--rounds', '0', '--images', 'images', '--batch-size', '4'],
    'compare-transfer': ['{config}', 'x.pth'],
    'compare-pretrain': ['--methods', '{config}', '--data', 'images', '--detector', '{config}'],
    'cache-teacher': ['{config}', '--out', 'o.safetensors'],
    'adapt': ['{config}'],
    'doctor': ['{config}', 'x.pth'],
}
# Content of a config, and what the sentence says.
CONTENTS = {
    'text.txt': ('hello', r'text\.txt cannot be opened as a config: OSError: Only py/yml'),
    'syntax.py': ('a = 1\nb = dict(\n', r'syntax\.py, line 2, cannot be opened as a config: SyntaxError'),
    'raises.py': ('a = 1\n\nb = 1 / 0\n', r'raises\.py, line 3, cannot be .*: ZeroDivisionError'),
    'ends.py': ('import sys\nsys.exit(3)\n', r'ends\.py.* cannot be opened as a config|no model'),
    'list.json': ('[1, 2]', r'list\.json cannot be opened as a config: AttributeError'),
    'half.json': ('{"model": 3', r'half\.json, line 1, cannot be opened as a config: JSONDecodeError'),
    'half.yaml': ('a: [1', r'half\.yaml cannot be opened as a config: ParserError'),
    'base.py': ("_base_ = 'nothing.py'\n", r'nothing\.py cannot be opened as a config: FileNotFound'),
    'child.py': ("_base_ = 'syntax.py'\n", r'syntax\.py, line 2, cannot be opened as a config'),
    'imports.py': (
        "custom_imports = dict(imports='not_there_at_all')\nmodel = dict(type='A')\n",
        r'imports\.py cannot be opened as a config: ImportError: .*not_there_at_all',
    ),
    'empty.py': ('', r'empty\.py has no model: a config needs model=dict\(type=...\)'),
    'text.py': ("model = 'x'\n", r'text\.py has no model'),
    'old.py': (
        "model = dict(type='A')\ndata = dict(samples_per_gpu=2)\nlr_config = dict(step=[8])\n",
        r'old\.py is written for MMDetection 2: it has data, lr_config\. Take',
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with some images."""
    draw_images(tmp_path / 'images', 6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sentence_of(command, *arguments):
    said = call(command, *arguments)
    assert isinstance(said, str), said
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize('command', COMMANDS)
def test_a_config_that_cannot_be_opened_is_named_with_the_reason(folder, command):
    for name, (content, _) in CONTENTS.items():
        (folder / name).write_text(content)
    before = sorted(folder.iterdir())
    for name, (_, sentence) in CONTENTS.items():
        said = sentence_of(command, *(part.format(config=name) for part in COMMANDS[command]))
        assert re.search(sentence, said), (name, said)
    assert sorted(folder.iterdir()) == before


def test_bases_in_a_circle(folder):
    (folder / 'one.py').write_text("_base_ = 'two.py'\n")
    (folder / 'two.py').write_text("_base_ = 'one.py'\n")
    assert '_base_ leads back to the same file' in sentence_of('doctor', 'one.py', 'x.pth')


def test_a_base_of_a_package_without_a_folder(folder):
    (folder / 'mine.py').write_text("_base_ = 'mcl_mm::mcl_r50_small.py'\n")
    said = sentence_of('doctor', 'mine.py', 'x.pth')
    assert "'PACKAGE::_base_/../NAME.py'" in said
    assert '_get_package' not in said


@pytest.mark.parametrize('command', ['browse', 'benchmark', 'cache-teacher'])
@pytest.mark.parametrize(
    ('setting', 'sentence'),
    [
        (
            'train_dataloader.dataset.type=Nope',
            'Nope is not in the|is not a config of pre-training',
        ),
        ('train_dataloader.dataset=3', 'cannot be built with these settings'),
        ('train_dataloader.dataset.pipeline=3', 'cannot be built|not a config of pre-training'),
        ('train_dataloder.batch_size=4', 'Did you mean train_dataloader'),
        ('model=3', 'has no model'),
    ],
)
def test_a_wrong_value_is_one_sentence(folder, command, setting, sentence):
    recipe = 'distill/small_student' if command == 'cache-teacher' else 'quickstart/pretrain'
    arguments = [part.format(config=recipe) for part in COMMANDS[command]]
    said = sentence_of(command, *arguments, '--cfg-options',
                       'train_dataloader.dataset.data_root=images', setting)  # fmt: skip
    assert re.search(sentence, said), said
    assert [path.name for path in folder.iterdir()] == ['images']


def test_a_config_of_another_package_trains(folder):
    """MMEngine marks parts of such a _base_ with their scope, which functions of loaders do not take."""
    (folder / 'mine.py').write_text("_base_ = 'mcl_mm::quickstart/pretrain.py'\n")
    settings = [setting for setting in SMALL if not setting.startswith('train_cfg')]
    assert call('train', 'mine.py', '--data', 'images', '--work-dir', 'out', '--cfg-options',
                *settings, 'train_cfg.max_iters=1', 'train_dataloader.batch_size=2') == 0  # fmt: skip
    assert (folder / 'out/last_checkpoint').exists()
