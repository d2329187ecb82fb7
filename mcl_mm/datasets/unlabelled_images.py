"""A folder of images, nothing else."""

import logging
import os
from collections.abc import Sequence
from typing import Optional

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from PIL import Image

from mcl_mm.registry import DATASETS

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')


@DATASETS.register_module()
class UnlabelledImages(CustomDataset):
    """All images below a folder, nested or flat; labels and folder names are not looked at.

    Args:
        data_root (str): The folder.
        ann_file (str): A text file with one path a line, relative to ``data_root``, which spares
            the search through millions of files. Defaults to '', every image below ``data_root``.
        extensions (Sequence[str]): What image files end in, in either case. Defaults to JPEG, PNG,
            WebP, BMP and TIFF.
        **kwargs: ``pipeline`` and the rest of mmpretrain's ``CustomDataset``.

    Raises:
        FileNotFoundError: The folder or ``ann_file`` does not exist.
        ValueError: There is no image in the folder, or none that can be read.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str = '',
        extensions: Sequence[str] = EXTENSIONS,
        **kwargs,
    ) -> None:
        if not os.path.isdir(data_root):
            raise FileNotFoundError(
                f'no image folder at {os.path.abspath(data_root)}: set '
                'train_dataloader.dataset.data_root to the folder that holds your images'
            )
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            with_label=False,
            extensions=extensions,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Find the images and open a few of them.

        Returns:
            list[dict]: ``dict(img_path=...)`` per image, sorted by path.
        """
        if self.ann_file:
            if not os.path.isfile(self.ann_file):
                raise FileNotFoundError(f'no list of images at {os.path.abspath(self.ann_file)}')
            data_list = super().load_data_list()
        else:
            data_list = [
                dict(img_path=os.path.join(folder, file))
                for folder, _, files in sorted(os.walk(self.img_prefix, followlinks=True))
                for file in sorted(files)
                if self.is_valid_file(file)
            ]
        if not data_list:
            where = self.ann_file or self.img_prefix
            raise ValueError(
                f'no image in {where}: looked for {", ".join(sorted(self.extensions))}'
            )
        check_readable([data_list[i]['img_path'] for i in sample_indices(len(data_list), 16)])
        return data_list

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Run the pipeline on one image.

        Returns:
            dict, optional: What the pipeline gives; None, with a warning, for a file that cannot be
            read, upon which MMEngine's dataset takes another image at random.
        """
        try:
            return super().prepare_data(idx)
        except OSError as error:
            print_log(f'{error}; another image takes its place', 'current', logging.WARNING)
            return None


def sample_indices(length: int, count: int) -> list[int]:
    """At most ``count`` indices spread evenly over ``range(length)``."""
    return np.linspace(0, length - 1, min(length, count)).astype(int).tolist()


def check_readable(paths: Sequence[str]) -> None:
    """Raise unless at least one of the files can be decoded.

    Raises:
        ValueError: None can; says why for the first.
    """
    first_error = None
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
            return
        except Exception as error:  # Pillow's decoders raise whatever comes up
            first_error = first_error or error
    raise ValueError(
        f'no readable image: none of {len(paths)} files tried could be decoded, '
        f'the first being {paths[0]} ({first_error})'
    )
