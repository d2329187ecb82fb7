"""Images to measure with are as those that are meant."""

from conftest import draw_images
from mcl_mm.evaluation.photos import draw_photos, list_images


def test_drawn_photos_cost_what_photos_cost(tmp_path):
    """Photographs of COCO, at this size and quality, take 3.1 bits a pixel."""
    draw_photos(str(tmp_path), 4)
    sizes = [path.stat().st_size * 8 / (500 * 375) for path in tmp_path.glob('*.jpg')]
    assert len(sizes) == 4
    assert 2.5 < min(sizes) <= max(sizes) < 3.5


def test_images_are_listed_as_often_as_an_epoch_needs(tmp_path):
    draw_images(tmp_path / 'images', 5)
    list_images(str(tmp_path / 'images'), 12, str(tmp_path / 'list.txt'))
    names = (tmp_path / 'list.txt').read_text().splitlines()
    assert names == [f'{index % 5:04d}.jpg' for index in range(12)]
