"""Bad images are listed once each, and stop a run when they are too many."""

import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from bad_files import picture
from conftest import ROOT
from mcl_mm.engine import BadImagesHook, TooManyBadImagesError


class Mean(BaseModel):
    """Something that trains on images, at no cost."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.weight * inputs.float().mean())


def train(images: Path, work_dir: Path, iterations: int, workers: int = 0, **hook) -> list[str]:
    """Train on a folder by MMEngine's runner; return what was logged as a warning."""
    with DefaultScope.overwrite_default_scope('mmengine'):
        return run(make_runner(images, work_dir, iterations, workers, hook))


def make_runner(images: Path, work_dir: Path, iterations: int, workers: int, hook: dict) -> Runner:
    return Runner(
        model=Mean(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            num_workers=workers,
            sampler=dict(type='InfiniteSampler'),
            collate_fn=dict(type='default_collate'),
            worker_init_fn=dict(type='mcl_mm.seed_worker'),
            dataset=dict(
                type='mcl_mm.UnlabelledImages',
                data_root=str(images),
                pipeline=[
                    dict(type='mcl_mm.LoadAnyImage'),
                    dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
                ],
            ),
        ),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        default_hooks=dict(
            checkpoint=None, bad_images=dict(type='mcl_mm.BadImagesHook', interval=5, **hook)
        ),
        experiment_name=str(work_dir),
        log_level='ERROR',
    )


def run(runner: Runner) -> list[str]:
    warnings = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    runner.logger.setLevel(logging.WARNING)
    runner.logger.addHandler(handler)
    try:
        runner.train()
    finally:
        runner.logger.removeHandler(handler)
    return [line for line in warnings if BadImagesHook.FILE in line]


@pytest.fixture
def images(tmp_path):
    """A hundred images, of which ``a0.jpg`` to ``a3.jpg`` are bad."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(96):
        picture(20, 20).save(folder / f'b{index:02}.png')
    for index in range(4):
        (folder / f'a{index}.jpg').write_text('text')
    return folder


def listed(work_dir):
    return (work_dir / 'bad_images.txt').read_text().splitlines()


@pytest.mark.parametrize('workers', [0, 2])
def test_each_file_is_listed_once_and_logged_once(images, tmp_path, workers):
    work = tmp_path / 'work'
    warnings = train(images, work, 75, workers)  # three times through the folder
    expected = [f'{images}/a{index}.jpg\tnot an image' for index in range(4)]
    assert sorted(listed(work)) == expected
    counts = [int(line.split()[0]) for line in warnings]
    assert sum(counts) == 4  # files, over all warnings
    assert f'{images}/a' in warnings[0]
    train(images, work, 75, workers)  # started again in the same work directory
    assert sorted(listed(work)) == expected


def test_a_full_disk_does_not_end_the_run(images, tmp_path):
    """It is told once; what is bad is listed when there is room."""
    work = tmp_path / 'work'
    work.mkdir()
    (work / BadImagesHook.FILE).symlink_to('/dev/full')
    (full,) = train(images, work, 75)
    assert 'bad_images.txt could not be written ([Errno 28] No space left on device)' in full
    (work / BadImagesHook.FILE).unlink()
    assert sum(int(line.split()[0]) for line in train(images, work, 75)) == 4
    assert len(listed(work)) == 4


def test_no_list_without_bad_images(images, tmp_path):
    for index in range(4):
        (images / f'a{index}.jpg').unlink()
    assert train(images, tmp_path / 'work', 10) == []
    assert not (tmp_path / 'work/bad_images.txt').exists()


def test_too_many_stop_the_run_with_the_list_and_what_to_do(images, tmp_path):
    with pytest.raises(TooManyBadImagesError) as error:
        train(images, tmp_path / 'work', 100, max_share=0.03, min_count=3)
    message = str(error.value)
    assert message.startswith('4 of ')
    assert 'more than the 3.0% that BadImagesHook.max_share allows' in message
    assert str(tmp_path / 'work/bad_images.txt') in message
    assert 'mcl-mm check-images DIR --list LIST' in message
    assert len(listed(tmp_path / 'work')) == 4


@pytest.mark.parametrize('limits', [dict(max_share=0.04, min_count=0), dict(min_count=4)])
def test_share_and_count_are_upper_limits(limits):
    hook = BadImagesHook(**limits)
    # Four times through 100 images of which 4 are bad: 4 %, however often they are met.
    hook.images_seen, hook.bad_images = 400, {f'a{index}': 'text' for index in range(4)}
    runner = Config(
        dict(work_dir='w', hooks=[], train_loop=dict(dataloader=dict(dataset=list(range(100)))))
    )
    hook.check_share(runner)
    hook.bad_images['a4'] = 'text'
    with pytest.raises(TooManyBadImagesError, match='5 of 100 images seen'):
        hook.check_share(runner)


def test_recipe_stops_above_one_per_cent():
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    assert cfg.default_hooks.bad_images == dict(type='BadImagesHook', max_share=0.01)


@pytest.mark.parametrize('arguments', [dict(max_share=1.5), dict(max_share=-1), dict(interval=0)])
def test_impossible_limits(arguments):
    with pytest.raises(ValueError, match='must'):
        BadImagesHook(**arguments)
