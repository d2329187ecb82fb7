"""Files that would run code when they are loaded, handed to every tool: refused, and nothing has run."""

import json
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_tools import FINETUNE, PRETRAIN, SMALL, call, run

from conftest import draw_images


class Evil:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images, a pre-training run of one step, and evil files; ``made`` is what those would make."""
    folder = tmp_path_factory.mktemp('untrusted')
    draw_images(folder / 'images', 8)
    with pytest.MonkeyPatch.context() as patch:
        call(patch, 'train', PRETRAIN, '--work-dir', folder / 'run', *options(folder, 1))
    evil = dict(state_dict={'backbone.conv1.weight': torch.ones(1)}, meta=Evil(folder / 'made'))
    torch.save(evil, folder / 'evil.pth')
    torch.save(evil, folder / 'evil.safetensors')
    content = dict(model={'a': np.ones(1)}, evil=Evil(folder / 'made'))
    (folder / 'evil.pkl').write_bytes(pickle.dumps(content))
    return folder


def options(folder, iterations, *more):
    """Arguments of a tiny pre-training run."""
    return [
        '--cfg-options',
        *(o for o in SMALL if not o.startswith(('train_cfg.', 'default_hooks.checkpoint'))),
        f'train_dataloader.dataset.data_root={folder}/images',
        f'train_cfg.max_iters={iterations}',
        'default_hooks.checkpoint.interval=1',
        *more,
    ]


def refused(monkeypatch, folder, file, tool, *arguments):
    with pytest.raises(SystemExit) as error:
        call(monkeypatch, tool, *arguments)
    assert str(error.value.code).startswith('ValueError: ')
    assert file in str(error.value.code)
    assert not (folder / 'made').exists()


FILES = ['evil.pth', 'evil.safetensors', 'evil.pkl']


@pytest.mark.parametrize('file', FILES)
@pytest.mark.parametrize('tool', ['export', 'convert_official', 'test'])
def test_tools_that_read_weights(folder, monkeypatch, tmp_path, tool, file):
    arguments = [folder / file, tmp_path / 'out.pth']
    if tool == 'test':
        arguments = [FINETUNE, folder / file, '--work-dir', tmp_path]
    refused(monkeypatch, folder, file, tool, *arguments)
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('file', FILES)
@pytest.mark.parametrize('way', ['load_from', 'resume', 'init_cfg', 'resume auto'])
def test_training(folder, monkeypatch, tmp_path, way, file):
    work_dir = tmp_path / 'work'
    config, start, more = PRETRAIN, [], []
    if way == 'load_from':
        more = [f'load_from={folder / file}']
    elif way == 'resume':
        start = ['--resume', folder / file]
    elif way == 'resume auto':
        work_dir.mkdir()
        shutil.copy(folder / file, work_dir / 'iter_1.pth')
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_1.pth'))
        start, file = ['--resume', 'auto'], str(work_dir)
    else:
        config = tmp_path / 'config.py'
        init_cfg = f"dict(_delete_=True, type='Pretrained', checkpoint='{folder / file}')"
        config.write_text(
            f"_base_ = '{PRETRAIN}'\nmodel = dict(backbone=dict(init_cfg={init_cfg}))\n"
        )
    arguments = [config, '--work-dir', work_dir, *start, *options(folder, 1, *more)]
    refused(monkeypatch, folder, file, 'train', *arguments)
    assert not set(work_dir.glob('*.pth')) - {work_dir / 'iter_1.pth'}


def test_config_text_in_a_resumed_checkpoint_does_not_run(folder, monkeypatch):
    """MMEngine would run it; the run goes on as if it were not there."""
    checkpoint = torch.load(folder / 'run/iter_1.pth', weights_only=False)
    checkpoint['meta']['config'] = f"import os\nos.mkdir('{folder / 'made'}')\n"
    torch.save(checkpoint, folder / 'with_config.pth')
    work_dir = folder / 'resumed'
    start = ['--work-dir', work_dir, '--resume', folder / 'with_config.pth']
    call(monkeypatch, 'train', PRETRAIN, *start, *options(folder, 2))
    assert torch.load(work_dir / 'iter_2.pth', weights_only=False)['meta']['iter'] == 2
    assert not (folder / 'made').exists()


def test_runner_of_another_tool(folder, tmp_path):
    """A Runner that nobody checked before, as MMDetection's own tools start it."""
    script = f"""
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile({FINETUNE!r})
assert cfg.custom_imports == dict(imports=['mcl_mm'])
cfg.merge_from_dict(dict(work_dir={str(tmp_path)!r}, load_from={str(folder / 'evil.pth')!r}))
runner = Runner.from_cfg(cfg)
runner.load_or_resume()
"""
    process = run(sys.executable, '-c', script, CUDA_VISIBLE_DEVICES='')
    assert process.returncode == 1
    assert 'reading it would run code from it, posix.mkdir' in process.stderr
    assert not (folder / 'made').exists()


def test_pretraining_starts_from_safetensors(folder, monkeypatch, tmp_path):
    """By load_from and, as a backbone of its own, by init_cfg; the weights arrive unchanged."""
    weights = torch.load(folder / 'run/iter_1.pth', weights_only=False)['state_dict']
    weights['backbone.conv1.weight'] = torch.full_like(weights['backbone.conv1.weight'], 0.25)
    contiguous = {name: value.contiguous() for name, value in weights.items()}
    save_file(contiguous, tmp_path / 'a.safetensors', dict(meta=json.dumps(dict(epoch=1))))
    config = tmp_path / 'config.py'
    init_cfg = (
        f"dict(_delete_=True, type='Pretrained', checkpoint='{tmp_path / 'a.safetensors'}', "
        "prefix='backbone')"
    )
    config.write_text(f"_base_ = '{PRETRAIN}'\nmodel = dict(backbone=dict(init_cfg={init_cfg}))\n")
    still = ['optim_wrapper.optimizer.lr=0', 'optim_wrapper.optimizer.weight_decay=0']
    for name, start, more in (
        ('load_from', PRETRAIN, [f'load_from={tmp_path / "a.safetensors"}']),
        ('init_cfg', config, []),
    ):
        call(monkeypatch, 'train', start, '--work-dir', tmp_path / name,
             *options(folder, 1, *still, *more))  # fmt: skip
        trained = torch.load(tmp_path / name / 'iter_1.pth', weights_only=False)['state_dict']
        assert (trained['backbone.conv1.weight'] == 0.25).all()
        key = 'backbone.layer3.0.conv1.weight'
        assert torch.equal(trained[key], weights[key])
