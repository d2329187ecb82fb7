"""``mcl-mm check-images --channels``: counts, ranges, means and deviations, as lines that a config takes."""

import json

import numpy as np
import pytest
import tifffile
from mmengine.config import Config

from command_line import call
from mcl_mm.datasets.depth import RANGE_FILE

BANDS = dict(photometric='minisblack', metadata=None)


@pytest.fixture
def images(tmp_path):
    """Three good files of three bands, with other values in each; one of two, one that is cut."""
    folder = tmp_path / 'images'
    (folder / 'more').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(3):
        bands = rng.normal([100, 2000, -50], [10, 300, 1], (64, 64, 3)).astype(np.float32)
        np.save(folder / f'{number}.npy', bands)
    tifffile.imwrite(folder / 'more/two.tif', bands[..., :2], planarconfig='contig', **BANDS)
    data = (folder / '0.npy').read_bytes()
    (folder / 'cut.npy').write_bytes(data[:5000])
    return folder


def check(capsys, *arguments):
    code = call('check_images', *arguments, '--workers', 1)
    return code, capsys.readouterr().out


def test_each_channel_is_measured_and_other_files_are_named(images, tmp_path, capsys):
    code, said = check(capsys, images, '--channels', 3, '--list', tmp_path / 'good.txt')
    assert code == 1
    assert 'more/two.tif\tother channels: it has 2, not channels=3' in said
    assert 'cut.npy\tdamaged: ' in said
    assert '2 of 5 images cannot be used' in said
    assert (tmp_path / 'good.txt').read_text() == '0.npy\n1.npy\n2.npy\n'
    found = json.loads((tmp_path / f'good.txt{RANGE_FILE}').read_text())
    values = np.concatenate([np.load(images / f'{n}.npy').reshape(-1, 3) for n in range(3)])
    low, high = np.percentile(values, (0.1, 99.9), axis=0)
    scaled = np.clip((values - low) / (high - low), 0, 1) * 255
    spread = high - low
    for c in range(3):
        assert np.abs(found['value_range'][c] - np.array([low[c], high[c]])).max() < spread[c] / 10
        assert found['mean'][c] == pytest.approx(scaled[:, c].mean(), abs=4)
        assert found['std'][c] == pytest.approx(scaled[:, c].std(), rel=0.1)


def test_the_printed_lines_are_a_config(images, tmp_path, capsys):
    _, said = check(capsys, images, '--channels', 3)
    lines = said[said.index('channels = 3') :]
    (tmp_path / 'config.py').write_text(lines)
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert len(cfg.train_dataloader.dataset.value_range) == cfg.channels == 3
    assert len(cfg.model.data_preprocessor.mean) == len(cfg.model.data_preprocessor.std) == 3


def test_bytes_have_means_and_no_range_and_a_dead_channel_is_said(tmp_path, capsys):
    bands = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    bands[..., 2] = 7
    np.save(tmp_path / 'a.npy', bands)
    code, said = check(capsys, tmp_path, '--channels', 4, '--list', tmp_path / 'good.txt')
    assert code == 0
    assert 'value_range' not in said.split('channels = 4')[1]
    assert '# channels that hold one value: 3' in said
    assert json.loads((tmp_path / f'good.txt{RANGE_FILE}').read_text())['value_range'] is None


def test_folders_can_be_chosen(images, capsys):
    _, said = check(capsys, images, '--channels', 2, '--folders', 'more')
    assert f'1 images in {images}' in said
    assert '0 of 1 images cannot be used' in said


def test_no_number_of_channels_is_refused(images, capsys):
    code, _ = check(capsys, images, '--channels', 0)
    assert 'channels must be a whole number from 1, got 0' in str(code)
