"""A folder of images, nothing else."""

import logging
import os
from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mcl_mm.registry import DATASETS

from .loading import BadImageError, read_image
from .seeded_sampler import SeededIndex

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')


@DATASETS.register_module()
class UnlabelledImages(CustomDataset):
    """All images below a folder, nested or flat; labels and folder names are not looked at.

    An image that cannot be used gives way to another one, drawn with NumPy's generator. The data
    sample of the other one then carries a note, ``bad_images``, for
    :class:`~mcl_mm.engine.BadImagesHook` to count and list.

    Args:
        data_root (str): The folder.
        ann_file (str): A text file with one path a line, relative to ``data_root``, which spares
            the search through millions of files. Defaults to '', every image below ``data_root``.
        folders (Sequence[str]): Folders in ``data_root`` to search, instead of all of it. Defaults to
            none.
        extensions (Sequence[str]): What image files end in, in either case. Defaults to JPEG, PNG,
            WebP, BMP and TIFF.
        **kwargs: ``pipeline`` and the rest of mmpretrain's ``CustomDataset``.

    Raises:
        FileNotFoundError: The folder, one of ``folders`` or ``ann_file`` does not exist.
        ValueError: There is no image in the folder, or none that can be read; or both ``ann_file`` and
            ``folders`` are given.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str = '',
        folders: Sequence[str] = (),
        extensions: Sequence[str] = EXTENSIONS,
        **kwargs,
    ) -> None:
        for folder in (data_root, *(os.path.join(data_root, folder) for folder in folders)):
            if not os.path.isdir(folder):
                raise FileNotFoundError(
                    f'no image folder at {os.path.abspath(folder)}: set '
                    'train_dataloader.dataset.data_root to the folder that holds your images'
                )
        if ann_file and folders:
            raise ValueError('ann_file spares the search through folders: give one of them')
        self.folders = folders
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            with_label=False,
            extensions=extensions,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Find the images and decode one of them.

        Returns:
            list[dict]: ``dict(img_path=...)`` per image, sorted by path.
        """
        data_list = self.find_images()
        check_readable([data_list[i]['img_path'] for i in sample_indices(len(data_list), 16)])
        return data_list

    def find_images(self) -> list[dict]:
        """List the images without opening any.

        Returns:
            list[dict]: See :meth:`load_data_list`.
        """
        if self.ann_file:
            if not os.path.isfile(self.ann_file):
                raise FileNotFoundError(f'no list of images at {os.path.abspath(self.ann_file)}')
            data_list = super().load_data_list()
        else:
            roots = (os.path.join(self.img_prefix, folder) for folder in self.folders or ('',))
            data_list = [
                dict(img_path=os.path.join(folder, file))
                for root in roots
                for folder, _, files in sorted(
                    os.walk(root, onerror=warn_of_folder, followlinks=True)
                )
                for file in sorted(files)
                if self.is_valid_file(file)
            ]
        if not data_list:
            where = self.ann_file or self.img_prefix
            raise ValueError(
                f'no image in {where}: looked for {", ".join(sorted(self.extensions))}'
            )
        return data_list

    def __getitem__(self, idx: int) -> dict:
        """One sample. With a :class:`SeededIndex` its random numbers are those of that seed."""
        if isinstance(idx, SeededIndex):
            idx.seed_generators()
        return super().__getitem__(int(idx))

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline on one image, or in training on another if that one cannot be used.

        Returns:
            dict: What the pipeline gives. If images were given up for it, its ``data_samples`` (where
            the pipeline packs them) have the meta field ``bad_images``: pairs of path and reason.

        Raises:
            OSError: ``max_refetch`` images in a row cannot be used, or one in ``test_mode``, where every
                image counts.
        """
        bad_images = []
        while True:
            try:
                data = super().prepare_data(idx)
                break
            except BadImageError as error:
                if self.test_mode:
                    raise OSError(
                        f'{error.path} cannot be tested on ({error.reason}): remove or replace it'
                    ) from error
                bad_images.append((error.path, error.reason))
                if len(bad_images) > self.max_refetch:
                    raise OSError(
                        f'{len(bad_images)} images in a row cannot be used, the last being '
                        f'{error.path} ({error.reason}). Is {self.data_root} still there?'
                    ) from error
            idx = self._rand_another()
        if bad_images and 'data_samples' in data:
            data['data_samples'].set_metainfo(dict(bad_images=bad_images))
        return data


def warn_of_folder(error: OSError) -> None:
    """Name a folder that cannot be searched."""
    print_log(f'images below {error.filename} are left out: {error}', 'current', logging.WARNING)


def sample_indices(length: int, count: int) -> list[int]:
    """At most ``count`` indices spread evenly over ``range(length)``."""
    return np.linspace(0, length - 1, min(length, count)).astype(int).tolist()


def check_readable(paths: Sequence[str]) -> None:
    """Raise unless at least one of the files can be used.

    Raises:
        ValueError: None can; says why for the first.
    """
    first_error = None
    for path in paths:
        try:
            read_image(path)
            return
        except BadImageError as error:
            first_error = first_error or error
    raise ValueError(
        f'no readable image: none of {len(paths)} files tried can be used, the first being '
        f'{first_error.path} ({first_error.reason})'
    )
