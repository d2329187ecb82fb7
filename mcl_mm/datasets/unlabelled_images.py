"""A folder of images, nothing else."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Optional, Union

from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mcl_mm.registry import DATASETS

from .channels import check_channels, check_views
from .decoding import BadImageError, shown
from .depth import RANGE_FILE, read_value_range
from .lists import join, read_list, without_label
from .scan import ARRAYS, EXTENSIONS, describe_passed_over, find_files
from .settings import check_folder, check_number, check_path, check_strings, check_table
from .storage import advise, find_store, find_table
from .survey import survey


@DATASETS.register_module()
class UnlabelledImages(CustomDataset):
    """All images below a folder, nested or flat; labels and folder names are not looked at.

    The folder may also hold tar shards with the index that ``mcl-mm pack`` writes, or what HuggingFace's
    ``datasets`` reads: a folder of ``save_to_disk``, Arrow or Parquet files.

    An image that cannot be used gives way to another one, drawn with NumPy's generator. The data
    sample of the other one then carries a note, ``bad_images``, for
    :class:`~mcl_mm.engine.BadImagesHook` to count and list.

    A few images are looked at when the set is built: images with more than 8 bits a sample get one
    range of values for the whole set, and what a user should know is said once.

    Args:
        data_root (str): The folder.
        ann_file (str): A text file with one path a line, relative to ``data_root``, which spares
            the search through millions of files. Labels behind the paths are not used. Defaults to '',
            every image below ``data_root``.
        folders (Sequence[str]): Folders in ``data_root`` to search, instead of all of it. Defaults to
            none.
        extensions (Sequence[str]): What image files end in, in either case. Defaults to JPEG, PNG,
            WebP, BMP, TIFF, JPEG 2000, PPM and its like, and AVIF where Pillow reads it.
        value_range (Sequence[float] | str, optional): Low and high: what becomes black and white of
            images with more than 8 bits; or the file in which ``check-images`` has written it; with
            ``channels`` also a pair for each. Defaults to None: such a file beside ``ann_file``, else
            measured on 64 images.
        channels (int, optional): How many an image has. They are read as they are, from NumPy's ``.npy``
            files too, and an image with others cannot be used. Defaults to None: all are made RGB.
        table (dict[str, str], optional): Of a folder with Arrow or Parquet files: ``split``, and the names
            of the columns ``image`` and ``label``. Defaults to None, the only ones there are.
        **kwargs: ``pipeline`` and the rest of mmpretrain's ``CustomDataset``.

    Attributes:
        value_range (tuple, optional): Known once the images are, with ``channels`` a pair for each; None
            if those that were looked at have 8 bits.
        range_measured (bool): It comes from the images themselves.

    Raises:
        FileNotFoundError: The folder, one of ``folders`` or ``ann_file`` does not exist.
        ValueError: There is no image in the folder, or none that can be read; both ``ann_file`` and
            ``folders`` are given; or a setting is of a wrong kind.
    """

    LABELS = False  # whether labels that are stored beside images are looked at

    def __init__(
        self,
        data_root: str,
        ann_file: str = '',
        folders: Sequence[str] = (),
        extensions: Sequence[str] = EXTENSIONS,
        value_range: Union[Sequence, str, None] = None,
        channels: Optional[int] = None,
        table: Optional[dict[str, str]] = None,
        **kwargs,
    ) -> None:
        check_path('data_root', data_root)
        check_path('ann_file', ann_file)
        check_strings('folders', folders)
        check_strings('extensions', extensions)
        check_table(table)
        if 'max_refetch' in kwargs:
            check_number('max_refetch', kwargs['max_refetch'], low=0, whole=True)
        check_channels(channels)
        check_views(kwargs.get('pipeline'), channels)
        if channels is not None and extensions is EXTENSIONS:
            extensions = (*EXTENSIONS, ARRAYS)
        data_root = os.path.expanduser(data_root)
        check_folder(data_root)
        if ann_file and folders:
            raise ValueError('ann_file spares the search through folders: give one of them')
        self.folders, self.table = folders, table or {}
        self.channels, self.value_range = channels, read_value_range(value_range, channels)
        self.range_measured = False
        self.passed_over, self.labels_unused = Counter(), False
        super().__init__(
            data_root=data_root,
            ann_file=os.fspath(ann_file),
            with_label=False,
            extensions=extensions,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Find the images and look at some.

        Returns:
            list[dict]: ``dict(img_path=...)`` per image, sorted by path.
        """
        data_list = self.find_images()
        self.store = None  # it was needed for names; workers need no copy
        self.tell_unused()
        range_file = self.ann_file + RANGE_FILE
        if self.value_range is None and self.ann_file and os.path.isfile(range_file):
            self.value_range = read_value_range(range_file, self.channels)
        paths = [info['img_path'] for info in data_list]
        found = survey(paths, self.value_range, self.channels)
        self.value_range, self.range_measured = found.value_range, bool(found.range_text)
        if found.range_text:
            print_log(f'{self.data_root}: {found.range_text}', 'current')
        for text in found.remarks:
            print_log(f'{self.data_root}: {text}', 'current', logging.WARNING)
        return data_list

    def find_images(self) -> list[dict]:
        """List the images without opening any.

        Returns:
            list[dict]: See :meth:`load_data_list`.
        """
        self.store = find_store(self.img_prefix, self.table)
        if self.ann_file:
            if not os.path.isfile(self.ann_file):
                raise FileNotFoundError(f'no list of images at {os.path.abspath(self.ann_file)}')
            data_list = self.read_list(read_list(self.ann_file, tuple(self.extensions)))
        else:
            data_list = self.search()
        if not data_list:
            other = self.passed_over and f'; passed over: {describe_passed_over(self.passed_over)}'
            raise ValueError(
                f'no image in {self.ann_file or self.img_prefix}: looked for '
                f'{", ".join(sorted(self.extensions))}{other or ""}'
                + ('' if self.ann_file or self.store else advise(self.img_prefix))
            )
        return data_list

    def search(self) -> list[dict]:
        """All images of the folder, or of what is stored in it."""
        if self.store is None:
            roots = [os.path.join(self.img_prefix, folder) for folder in self.folders or ('',)]
            for root in roots:
                check_folder(root)
            paths, self.passed_over = find_files(roots, self.extensions)
            if paths:
                return [dict(img_path=path) for path in paths]
            self.store = find_table(self.img_prefix, self.table)
        if self.store is None:
            return []
        data_list, self.passed_over = self.store.find(self.folders, self.extensions, self.LABELS)
        return data_list

    def path_of(self, name: str) -> str:
        """Path of a list's image."""
        return self.store.path_of(name) if self.store else join(self.img_prefix, name)

    def read_list(self, lines: Sequence[tuple[int, str]]) -> list[dict]:
        """The images of a list.

        Args:
            lines (Sequence[tuple[int, str]]): Of :func:`~mcl_mm.datasets.lists.read_list`.
        """
        named = [without_label(line, tuple(self.extensions)) for _, line in lines]
        self.labels_unused = any(label is not None for _, label in named)
        return [dict(img_path=self.path_of(name)) for name, _ in named]

    def tell_unused(self) -> None:
        """Say once which files of the folder, or what of a list, is not used."""
        if self.labels_unused:
            print_log(f'the labels in {self.ann_file} are not used', 'current')
        if self.passed_over:
            text = describe_passed_over(self.passed_over)
            print_log(f'files of {self.data_root} that are passed over: {text}', 'current')

    def get_data_info(self, idx: int) -> dict:
        """What is known of an image, with ``value_range`` and ``channels`` of the set if there are."""
        info = super().get_data_info(idx)
        if self.channels is not None:
            info['channels'] = self.channels
        if self.value_range is not None:
            info['value_range'] = self.value_range
        return info

    def get_cat_ids(self, idx: int) -> list[int]:
        """The class of an image, for MMEngine's ``ClassBalancedDataset``."""
        raise ValueError(
            f'{type(self).__name__} has no classes to balance: use LabelledImages, or RepeatDataset'
        )

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
                        f'{shown(error.path)} cannot be tested on ({error.reason}): remove or replace it'
                    ) from error
                bad_images.append((error.path, error.reason))
                if len(bad_images) > self.max_refetch:
                    raise OSError(
                        f'{len(bad_images)} images in a row cannot be used, the last being '
                        f'{shown(error.path)} ({error.reason}). Is {self.data_root} still there?'
                    ) from error
            idx = self._rand_another()
        if bad_images and 'data_samples' in data:
            data['data_samples'].set_metainfo(dict(bad_images=bad_images))
        return data
