"""What is installed from a wheel is the whole package: commands, recipes, tools and what mim asks for."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import yaml
from mmengine.config import Config

from conftest import ROOT, SMALL, draw_images

PARTS = ('mcl_mm', 'configs', 'tools', 'setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE',
         'model-index.yml')  # fmt: skip


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy without what builds leave behind."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(path, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope='module')
def installed(checkout, tmp_path_factory):
    """A folder with the wheel's contents, and a function that runs Python with it from elsewhere."""
    folder = tmp_path_factory.mktemp('installed')
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']
    build = [*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder / 'dist', checkout]
    subprocess.run(list(map(str, build)), check=True)
    (wheel,) = (folder / 'dist').glob('*.whl')
    install = [*pip, 'install', '--no-deps', '--no-index', '--target', folder / 'site', wheel]
    subprocess.run(list(map(str, install)), check=True)
    elsewhere = tmp_path_factory.mktemp('elsewhere')

    def run(*arguments, code=0):
        # Without this checkout, which the path of the tests' own process may have.
        paths = [p for p in os.environ.get('PYTHONPATH', '').split(os.pathsep) if p]
        paths = [p for p in paths if not (ROOT.samefile(p) if os.path.exists(p) else False)]
        env = dict(
            os.environ,
            PYTHONPATH=os.pathsep.join([str(folder / 'site'), *paths]),
            PYTHONWARNINGS='ignore',
            CUDA_VISIBLE_DEVICES='',
        )
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=elsewhere, env=env, text=True, capture_output=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run.wheel, run.site, run.folder = wheel, folder / 'site', elsewhere
    return run


def test_the_wheel_holds_recipes_and_tools(installed):
    held = set(zipfile.ZipFile(installed.wheel).namelist())
    for part in ('configs', 'tools'):
        files = [p for p in (ROOT / part).rglob('*') if p.is_file() and p.suffix != '.pyc']
        assert {f'mcl_mm/.mim/{p.relative_to(ROOT)}' for p in files} <= held
    assert 'mcl_mm/.mim/model-index.yml' in held


def test_the_source_distribution_holds_them_too(checkout, tmp_path):
    code = 'import setuptools.build_meta as build, sys; print(build.build_sdist(sys.argv[1]))'
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)], cwd=checkout, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = tmp_path.glob('*.tar.gz')
    with tarfile.open(path) as archive:
        held = {name.partition('/')[2] for name in archive.getnames()}
    assert 'mcl_mm/.mim/configs/mcl_r50_100e.py' in held
    assert 'mcl_mm/.mim/tools/dist_train.sh' in held
    assert 'mcl_mm/.mim/model-index.yml' in held


# Runs `python -m mcl_mm` with arguments and a file for its output, each time in a process that is forked from
# this one, in which everything is imported already.
COMMANDS = """
import json, os, runpy, sys
import mcl_mm.cli.train
print(mcl_mm.__file__, flush=True)  # else each fork would print it, too
for file, *sys.argv[1:] in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), 1)
        runpy.run_module('mcl_mm', run_name='__main__', alter_sys=True)
    status = os.waitpid(child, 0)[1]
    assert status == 0, (sys.argv, status)
"""


def test_a_run_of_the_installed_package_from_another_folder(installed):
    """Pre-training by a recipe's name, export, doctor and adapt; nothing of the checkout is used."""
    images = draw_images(installed.folder / 'images', 12)
    options = ['--cfg-options', *SMALL, f'train_dataloader.dataset.data_root={images}']
    detector = str(installed.site / 'mcl_mm/.mim/configs/quickstart/retinanet_bccd.py')
    commands = [
        ['help.txt', '--help'],
        ['my.py', 'configs', 'quickstart/pretrain'],
        ['train.txt', 'train', 'my.py', '--work-dir', 'run', *options],
        ['export.txt', 'export', 'run/iter_2.pth', 'export.pth'],
        ['doctor.txt', 'doctor', detector, 'export.pth'],
        ['adapt.txt', 'adapt', detector, '--out-dir', 'adapted'],
    ]
    where = installed('-c', COMMANDS, json.dumps(commands)).splitlines()[-1]
    assert where == str(installed.site / 'mcl_mm/__init__.py')
    assert 'compare-pretrain' in (installed.folder / 'help.txt').read_text()
    assert str(installed.site) in (installed.folder / 'my.py').read_text()
    assert 'neck' in (installed.folder / 'doctor.txt').read_text()
    written = sorted(path.name for path in (installed.folder / 'adapted').glob('*.py'))
    assert written
    for name in written:
        Config.fromfile(installed.folder / 'adapted' / name)


def test_the_tools_of_the_installed_package_are_the_commands(installed):
    """As `mim train mcl_mm CONFIG` calls them."""
    tool = installed.site / 'mcl_mm/.mim/tools/train.py'
    assert 'the name of a recipe' in installed(tool, '--help')


def test_the_metafile_names_recipes_and_the_numbers_of_the_paper():
    """Those of the first line of each config."""
    (metafile,) = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    models = yaml.safe_load((ROOT / metafile).read_text())['Models']
    assert len({model['Name'] for model in models}) == len(models)
    numbers = 0
    for model in models:
        text = (ROOT / model['Config']).read_text()
        published = re.search(r'paper: ([\d.]+) box AP / ([\d.]+) mask AP', text.splitlines()[0])
        metrics = {}
        for result in model.get('Results', []):
            metrics.update(result['Metrics'])
        expected = {}
        if published:
            expected = {
                'box AP of the paper': float(published[1]),
                'mask AP of the paper': float(published[2]),
            }
        assert metrics == expected, model['Name']
        numbers += len(metrics)
    assert numbers >= 6
