"""One picture an image, whatever images are called."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.structures import DetDataSample

from mcl_mm.evaluation.png_visualizer import PNGVisualizer, common_folder


class Images(list):
    """Paths as a data set gives them."""

    def get_data_info(self, index):
        return dict(img_path=self[index])


def test_images_of_one_name_in_several_folders_get_a_picture_each(tmp_path):
    paths = [f'/data/set/{p}' for p in ('a/0.jpg', 'b/0.jpg', 'b/1.jpg', 'b/1.png', 'b/1.jpg')]
    visualizer = PNGVisualizer(name='test')
    visualizer.root = common_folder(Images(paths))
    for path in paths:
        sample = DetDataSample(metainfo=dict(img_path=path))
        image = np.zeros((20, 30, 3), np.uint8)
        out = tmp_path / path.rpartition('/')[2]  # as MMDetection's hook calls it
        visualizer.add_datasample(
            'test_img', image, data_sample=sample, draw_gt=False, draw_pred=False, out_file=str(out)
        )
    drawn = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*.png'))
    assert drawn == ['a/0.png', 'b/0.png', 'b/1.png', 'b/1.png.png']


@pytest.mark.parametrize(
    ('paths', 'folder'),
    [
        (['/x/a/0.jpg', '/x/b/0.jpg'], '/x'),
        (['/x/a/0.jpg', '/x/a/1.jpg'], '/x/a'),
        (['/x/a/0.jpg'], '/x/a'),
        (['/x/a.jpg', 'b.jpg'], None),
        ([], None),
    ],
)
def test_what_folders_have_in_common(paths, folder):
    assert common_folder(Images(paths)) == folder


def test_pictures_of_a_data_set_without_a_root_lie_in_one_folder(tmp_path):
    visualizer = SimpleNamespace(root=None, drawn={})
    path = PNGVisualizer.picture(visualizer, str(tmp_path / 'out/7.tif'), '/data/7.tif')
    assert path == str(tmp_path / 'out/7.png')
