"""Pictures of what a detector finds."""

import os
from typing import Optional

from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mcl_mm.files import make_folder
from mcl_mm.registry import VISUALIZERS


@VISUALIZERS.register_module()
class PNGVisualizer(DetLocalVisualizer):
    """MMDetection's, writing one PNG an image.

    A picture is called as its image is, whatever that one's format, in the folder that its image has
    below :attr:`root`. Where another image has that name too, the picture keeps its image's ending:
    ``a.png`` and ``a.jpg.png``.

    Attributes:
        root (str, optional): What all images have in common, see :func:`common_folder`. None puts all
            pictures into one folder.
    """

    def __init__(self, name: str = 'visualizer', *args, **kwargs) -> None:
        super().__init__(name, *args, **kwargs)
        self.root: Optional[str] = None
        self.drawn: dict[str, str] = {}

    def add_datasample(
        self,
        name: str,
        image,
        data_sample: Optional[DetDataSample] = None,
        *args,
        out_file: Optional[str] = None,
        **kwargs,
    ) -> None:
        """Draw, into a file of the image's own."""
        if out_file is not None:
            out_file = self.picture(out_file, data_sample.img_path)
        super().add_datasample(name, image, data_sample, *args, out_file=out_file, **kwargs)

    def picture(self, out_file: str, img_path: str) -> str:
        """Where the picture of an image goes, which MMDetection would write to ``out_file``."""
        if self.root is not None:
            name = os.path.relpath(img_path, self.root)
            out_file = os.path.join(os.path.dirname(out_file), name)
        plain = os.path.splitext(out_file)[0] + '.png'
        if self.drawn.setdefault(plain, img_path) != img_path:
            plain = f'{out_file}.png'
        os.makedirs(os.path.dirname(plain), exist_ok=True)
        return plain


def draw_into(cfg: Config, folder: str) -> None:
    """Have MMDetection draw every tested image into a folder: labels left, detections right.

    Args:
        cfg (Config): Of a detector. Changed in place.
        folder (str): Is made now.

    Raises:
        OSError: It cannot be written to.
        ValueError: The config detects nothing.
    """
    if 'visualization' not in cfg.default_hooks:
        raise ValueError(f'--show-dir draws detections, and {cfg.filename} detects nothing')
    make_folder(folder)
    cfg.visualizer = dict(
        type='mcl_mm.PNGVisualizer', name='drawing', vis_backends=[dict(type='LocalVisBackend')]
    )
    cfg.default_hooks.visualization = dict(
        type='mmdet.DetVisualizationHook', draw=True, test_out_dir=os.path.abspath(folder)
    )


def name_pictures(runner: Runner) -> None:
    """Tell the visualizer of a run that :func:`draw_into` has prepared where its images lie."""
    runner.visualizer.root = common_folder(runner.test_loop.dataloader.dataset)


def common_folder(dataset: Dataset) -> Optional[str]:
    """The deepest folder that holds all images of a data set; None where they have none in common."""
    folders = {
        os.path.dirname(dataset.get_data_info(index)['img_path']) for index in range(len(dataset))
    }
    try:
        return os.path.commonpath(folders)
    except ValueError:  # no image, or drives, or absolute and relative paths
        return None
