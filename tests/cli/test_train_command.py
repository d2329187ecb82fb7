"""``mcl-mm train``: a recipe by name, on a folder of images."""

import re

import pytest
from mmengine.config import Config

from conftest import SMALL, call_tool, draw_images


def test_a_recipe_by_name_on_a_folder_of_images(tmp_path, monkeypatch):
    images = draw_images(tmp_path / 'my images, two', 6)
    monkeypatch.chdir(tmp_path)
    call_tool(monkeypatch, 'train', 'quickstart/pretrain', '--data', images, '--work-dir', 'out',
              '--cfg-options', *SMALL)  # fmt: skip
    assert (tmp_path / 'out/iter_2.pth').exists()
    written = Config.fromfile(next((tmp_path / 'out').glob('*/vis_data/config.py')))
    assert written.train_dataloader.dataset.data_root == str(images)
    assert written.train_cfg.max_iters == 2


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['mcl_r50_smal'], 'Did you mean mcl_r50_small'),
        (['missing.py'], 'no config at missing.py'),
        (['quickstart/pretrain', '--data', 'missing'], 'no image folder at .*missing'),
    ],
)
def test_a_mistyped_name_is_one_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        call_tool(monkeypatch, 'train', *arguments)
    assert len(str(end.value.code).splitlines()) == 1
    assert re.search(sentence, str(end.value.code))


@pytest.mark.parametrize(
    ('setting', 'sentence'),
    [
        ('model.backbone.dept=18', "cannot be built with these .* 'dept'"),
        ('model.type=MCLL', 'cannot be built with these settings .* MCLL is not in'),
        ('model=3', 'has no model: a config needs'),
        (
            'model.data_preprocessor.std=[0,0,0]',
            'data_preprocessor.std must be a list of numbers above 0',
        ),
        ('model.data_preprocessor.mean=x', "data_preprocessor.mean must be a list .* got 'x'"),
        ('optim_wrapper.optimizer.lr=abc', "cannot be built with these settings .* 'str'"),
        ('optim_wrapper.optimizer.type=AdamZ', 'cannot be built with these settings'),
        ('param_scheduler.0.end=x', 'cannot be built with these settings'),
        ('train_cfg.max_iters=0', 'train_cfg.max_iters must be a whole number from 1, got 0'),
        ('train_cfg.max_iters=ten', 'train_cfg.max_iters must be a whole number from 1'),
        ('default_hooks.checkpoint.interval=half', 'checkpoint.interval must be a whole number'),
        ('train_dataloder.batch_size=4', 'Did you mean train_dataloader'),
    ],
)
def test_a_setting_that_does_not_fit_is_one_sentence(tmp_path, monkeypatch, setting, sentence):
    images = draw_images(tmp_path / 'images', 6)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        call_tool(monkeypatch, 'train', 'quickstart/pretrain', '--data', images, '--cfg-options', *SMALL,
                  setting)  # fmt: skip
    assert len(str(end.value.code).splitlines()) == 1
    assert re.search(sentence, str(end.value.code))
    assert not list(tmp_path.rglob('*.pth'))


def test_a_setting_without_a_value_is_wrong_usage(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call_tool(monkeypatch, 'train', 'quickstart/pretrain', '--cfg-options', 'train_cfg')
    assert end.value.code == 2
    assert 'settings are written key=value' in capsys.readouterr().err


def test_a_folder_to_write_to_is_no_file(tmp_path, monkeypatch):
    images = draw_images(tmp_path / 'images', 6)
    (tmp_path / 'file').write_text('mine')
    for work_dir in ('file', 'file/below'):
        with pytest.raises(SystemExit, match='file is a file, not a folder. Give another folder'):
            call_tool(monkeypatch, 'train', 'quickstart/pretrain', '--data', images, '--work-dir',
                      tmp_path / work_dir)  # fmt: skip
    assert (tmp_path / 'file').read_text() == 'mine'


def test_annotations_that_are_not_there_are_named_with_what_to_set(tmp_path, monkeypatch):
    images = draw_images(tmp_path / 'images', 6)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        call_tool(monkeypatch, 'train', 'quickstart/finetune', '--data', images)
    assert re.search(
        'finetune needs .*json: No such file .* ann_file of a data set', end.value.code
    )


def test_pixels_of_a_detector_are_checked_before_the_first_iteration(tmp_path, monkeypatch):
    """MMEngine's data preprocessor takes a deviation of zero, and the loss is not finite."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match='data_preprocessor.std must be a list of numbers above 0'):
        call_tool(monkeypatch, 'train', 'quickstart/finetune', '--cfg-options',
                  'model.data_preprocessor.std=[0,0,0]')  # fmt: skip
