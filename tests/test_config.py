"""Recipes are found by name, from anywhere; what is printed to be edited means the same."""

import os
import subprocess
import sys

import pytest
from mmengine.config import Config, ConfigDict

from conftest import ROOT, call_tool
from mcl_mm.config import (
    RECIPES,
    describe,
    find_config,
    portable_text,
    recipes,
    type_name,
)
from mcl_mm.engine import TransferHook


@pytest.mark.parametrize(
    ('part', 'name'),
    [
        (dict(type='MCL'), 'MCL'),
        (ConfigDict(type='mcl_mm.MCL'), 'MCL'),
        (dict(type=TransferHook), 'TransferHook'),
        ('mmdet.FPN', 'FPN'),
        (TransferHook, 'TransferHook'),
        ({}, ''),
        (dict(type=None), ''),
    ],
)
def test_type_name(part, name):
    assert type_name(part) == name


def test_every_recipe_is_listed_with_its_first_line():
    names = list(recipes())
    files = [p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts]
    assert sorted(names) == sorted(str(p.relative_to(ROOT / 'configs'))[:-3] for p in files)
    for name in names:
        line = (ROOT / f'configs/{name}.py').read_text().splitlines()[0]
        assert line == f'# {describe(name)}'
        assert len(describe(name)) > 10


@pytest.mark.parametrize(
    'name',
    ['quickstart/pretrain', 'pretrain', 'pretrain.py', 'configs/quickstart/pretrain.py'],
)
def test_a_recipe_is_found_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(find_config(name), ROOT / 'configs/quickstart/pretrain.py')


def test_a_file_comes_first_and_other_packages_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mcl_r50_small').write_text('a = 1')
    assert find_config('mcl_r50_small') == 'mcl_r50_small'
    name = 'retinanet/retinanet_r50_fpn_1x_coco.py'
    assert Config.fromfile(find_config(f'mmdet::{name}')).model.type == 'RetinaNet'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('mcl_r50_smal', 'Did you mean mcl_r50_small'),
        ('nowhere.py', 'no config at nowhere.py, and no recipe of that name. `mcl-mm configs`'),
        ('mmdet::retinanet/nothing.py', 'mmdet has no config retinanet/nothing.py'),
        ('other::folder/config.py', 'does not support to load other'),
        ('mmdet::retinanet', 'specify the package name'),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(name, message):
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        find_config(name)


def test_a_name_of_several_recipes_is_refused(tmp_path, monkeypatch):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'same.py').touch()
    monkeypatch.setattr('mcl_mm.config.RECIPES', tmp_path)
    with pytest.raises(ValueError, match='may be any of a/same, b/same: give the folder'):
        find_config('same')
    assert find_config('b/same') == str(tmp_path / 'b/same.py')


def test_printed_recipes_mean_the_same_elsewhere(tmp_path):
    """All of them, bases with variables among them."""
    for name in recipes():
        path = RECIPES / f'{name}.py'
        (tmp_path / 'my.py').write_text(portable_text(str(path)))
        assert Config.fromfile(tmp_path / 'my.py').to_dict() == Config.fromfile(path).to_dict(), (
            name
        )


def test_bases_are_found_whatever_stands_around_them(tmp_path):
    """Bytes and characters differ in number; names of packages are left alone."""
    (tmp_path / 'base.py').write_text('a = 1')
    config = tmp_path / 'ä.py'
    config.write_text(
        "# ä\n_base_ = ['./base.py', 'mmdet::retinanet/x.py']  # ü './base.py'\nb = 'base.py'\n"
    )
    assert portable_text(str(config)) == (
        f"# ä\n_base_ = [{str(tmp_path / 'base.py')!r}, 'mmdet::retinanet/x.py']  # ü './base.py'\n"
        "b = 'base.py'\n"
    )


def test_a_config_takes_bases_from_this_package(tmp_path):
    """MMEngine's table of packages has it as soon as mcl_mm is imported. It asks for a folder."""
    (tmp_path / 'my.py').write_text("_base_ = 'mcl_mm::quickstart/pretrain.py'\n")
    expected = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py')
    model = Config.fromfile(tmp_path / 'my.py').model
    assert model.pop('_scope_') == 'mcl_mm'  # MMEngine notes where a base is from
    assert model == expected.model
    (tmp_path / 'top.py').write_text("_base_ = 'mcl_mm::_base_/../mcl_r50_small.py'\n")
    assert Config.fromfile(tmp_path / 'top.py').iterations == 10000
    code = f'from mmengine.config import Config; Config.fromfile({str(tmp_path / "my.py")!r})'
    done = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True)
    assert 'does not support to load mcl_mm' in done.stderr  # so the docs say


def test_the_command_prints_what_can_be_piped(monkeypatch, capsys):
    call_tool(monkeypatch, 'configs', 'mcl_r50_small')
    assert capsys.readouterr().out == portable_text(str(RECIPES / 'mcl_r50_small.py'))
    call_tool(monkeypatch, 'configs', 'mcl_r50_small', '--path')
    assert capsys.readouterr().out == f'{RECIPES / "mcl_r50_small.py"}\n'
    call_tool(monkeypatch, 'configs', 'quickstart')
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ['quickstart/byol', 'BYOL']
    assert all(line.startswith('quickstart/') for line in lines)
    with pytest.raises(SystemExit, match='no recipe of that name'):
        call_tool(monkeypatch, 'configs', 'nothing_like_it')
