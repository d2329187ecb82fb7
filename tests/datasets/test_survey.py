"""A few images say what a set is like, the same in every process."""

import re

import numpy as np
import pytest
from PIL import Image

from conftest import draw_images
from mcl_mm.datasets import LoadAnyImage, UnlabelledImages
from mcl_mm.datasets.survey import survey, tone


def draw_deep(folder, count=12, low=100, high=4000, seed=0):
    """16-bit images with values between two numbers."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.fromarray(rng.integers(low, high, (40, 50)).astype(np.uint16)).save(
            folder / f'{index:02}.png'
        )
    return folder


def paths(folder):
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def said(monkeypatch):
    """What a data set tells the user."""
    texts = []
    monkeypatch.setattr(
        'mcl_mm.datasets.unlabelled_images.print_log', lambda text, *_: texts.append(text)
    )
    return texts


def test_8_bits_need_no_range_and_no_word(image_folder, said):
    data = UnlabelledImages(data_root=str(image_folder), pipeline=[])
    assert data.value_range is None
    assert 'value_range' not in data[0]
    assert said == []


def test_the_whole_set_is_looked_at(tmp_path, said):
    """Its second folder has more bits than its first."""
    draw_images(tmp_path / 'set/a', 12)
    draw_deep(tmp_path / 'set/b', 10)
    low, high = UnlabelledImages(data_root=str(tmp_path / 'set'), pipeline=[]).value_range
    assert low == pytest.approx(100, abs=30)
    assert high == pytest.approx(4000, abs=30)


def test_a_deep_set_is_measured_once_and_alike(tmp_path, said):
    folder = draw_deep(tmp_path / 'a')
    np.random.seed(5)
    state = np.random.get_state()[1].tolist()
    data = UnlabelledImages(data_root=str(folder), pipeline=[LoadAnyImage()])
    assert np.random.get_state()[1].tolist() == state  # nothing drawn
    low, high = data.value_range
    assert 100 <= low < 110
    assert 3990 < high < 4000
    assert data.range_measured
    assert len(said) == 1
    assert f'value_range=[{low:g}, {high:g}]' in said[0]
    assert UnlabelledImages(data_root=str(folder), pipeline=[]).value_range == (low, high)
    values = np.asarray(Image.open(folder / '03.png')).astype(float)
    expected = ((values - low) * 255 / (high - low)).clip(0, 255)
    assert np.abs(data[3]['img'][..., 0] - expected).max() <= 1


def test_a_given_range_is_not_measured(tmp_path, said):
    folder = draw_deep(tmp_path / 'a')
    data = UnlabelledImages(data_root=str(folder), value_range=[0, 4095], pipeline=[LoadAnyImage()])
    assert (data.value_range, data.range_measured, said) == ((0, 4095), False, [])
    values = np.asarray(Image.open(folder / '03.png')).astype(float)
    assert np.abs(data[3]['img'][..., 0] - values * 255 / 4095).max() <= 1


def test_the_range_counts_before_that_of_the_loader(tmp_path):
    folder = draw_deep(tmp_path / 'a')
    loader = LoadAnyImage(value_range=[0, 65535])
    data = UnlabelledImages(data_root=str(folder), value_range=[0, 4095], pipeline=[loader])
    assert data[0]['img'].max() > 200


@pytest.mark.parametrize(
    ('low', 'high', 'value_range', 'found'),
    [
        (
            100,
            4000,
            (0, 65535),
            r'8 of 8 images looked at are nearly flat: 98 percent .* within 20 of 255',
        ),
        (0, 400, (0, 65535), 'are nearly black: their mean is below 5 of 255, once 0 to 65535'),
        (100, 4000, (2900, 3000), 'are clipped: more than 50% of their values are 0 or 255'),
    ],
)
def test_what_shows_little_is_warned_of_with_numbers(tmp_path, said, low, high, value_range, found):
    folder = draw_deep(tmp_path / 'a', low=low, high=high)
    UnlabelledImages(data_root=str(folder), value_range=value_range, pipeline=[])
    assert len(said) == 1
    assert re.search(found, said[0])


def test_dark_bytes_are_warned_of_too(tmp_path):
    for index in range(9):  # maps of labels, taken for pictures
        Image.fromarray(np.full((40, 50), index % 4, np.uint8)).save(tmp_path / f'{index}.png')
    (remark,) = survey(paths(tmp_path)).remarks
    assert 'nearly black' in remark


def test_what_is_left_out_is_said(tmp_path):
    for index in range(4):
        frames = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 50, 3), np.uint8))
                  for i in range(3)]  # fmt: skip
        frames[0].save(tmp_path / f'{index}.tif', save_all=True, append_images=frames[1:])
    (remark,) = survey(paths(tmp_path)).remarks
    assert (
        remark == '4 of 4 images looked at have pages or frames after the first: these are left out'
    )


def test_tones():
    values = np.arange(256).astype(np.uint8)
    assert tone(values) is None
    assert tone(values // 64) == 'nearly black'
    assert tone(100 + values // 32) == 'nearly flat'
    assert tone(np.where(values < 150, 255, values).astype(np.uint8)) == 'clipped'


def test_bad_images_are_stepped_over(tmp_path):
    folder = draw_images(tmp_path / 'a', 20)
    for index in range(15):
        (folder / f'{index:04}.jpg').write_text('text')
    assert survey(paths(folder)).remarks == []
    for index in range(20):
        (folder / f'{index:04}.jpg').write_text('text')
    with pytest.raises(
        ValueError, match=r'none of 16 files tried can be used.*0000.jpg .not an image'
    ):
        survey(paths(folder))
