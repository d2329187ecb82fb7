"""A folder of images with a class each."""

import logging
import os
from collections.abc import Sequence
from typing import Optional

from mmengine.logging import print_log

from mcl_mm.registry import DATASETS

from .unlabelled_images import UnlabelledImages


@DATASETS.register_module()
class LabelledImages(UnlabelledImages):
    """Images in one folder per class, or in a list with labels; else as :class:`UnlabelledImages`.

    Without a list that has labels, the folders directly below ``data_root``, sorted by name, are the
    classes 0, 1, ...; their images may be nested further. A folder without images is no class and is
    warned of. The image that stands in for a bad one brings its own label.

    Args:
        data_root (str): The folder.
        ann_file (str): A text file with a path relative to ``data_root`` and a label (an integer from
            0), separated by a space, on each line; or with paths alone, whose first folders are the
            classes, as ``tools/check_images.py --list`` writes it. Defaults to '', all images.
        **kwargs: The rest of :class:`UnlabelledImages`.

    Attributes:
        num_classes (int): Folders, or the largest label of a list and one more.

    Raises:
        FileNotFoundError, ValueError: As :class:`UnlabelledImages`; or an image has no label, one that
            is no integer from 0, or all have the same.
    """

    @property
    def classes(self) -> Optional[tuple[str, ...]]:
        """Names of the folders, kept in checkpoints as ``dataset_meta``; None if a list has labels."""
        return self.metainfo.get('classes')

    def find_images(self) -> list[dict]:
        """List the images and their labels without opening any.

        Returns:
            list[dict]: ``dict(img_path=..., gt_label=...)`` per image.
        """
        data_list = super().find_images()
        if self.ann_file and any(split_label(info['img_path']) for info in data_list):
            self.read_labels(data_list)
            self.num_classes = max(info['gt_label'] for info in data_list) + 1
        else:
            self._metainfo['classes'] = self.label_by_folder(data_list)
            self.num_classes = len(self.classes)
            self.warn_of_empty_folders()
        if len({info['gt_label'] for info in data_list}) < 2:
            raise ValueError(
                f'all {len(data_list)} images of {self.ann_file or self.img_prefix} are of one class, '
                'from which nothing can be learned: give data_root a folder for each class'
            )
        return data_list

    def read_labels(self, data_list: list[dict]) -> None:
        """Take the labels off the ends of the paths."""
        for number, info in enumerate(data_list, 1):
            labelled = split_label(info['img_path'])
            if labelled is None:
                raise ValueError(
                    f'line {number} of {self.ann_file} has no label: it should end in a space and an '
                    f'integer from 0, got {os.path.basename(info["img_path"])!r}'
                )
            info.update(img_path=labelled[0], gt_label=labelled[1])

    def label_by_folder(self, data_list: Sequence[dict]) -> tuple[str, ...]:
        """Number the folders below the root; returns their names."""
        folders = []
        for info in data_list:
            folder, _, rest = os.path.relpath(info['img_path'], self.img_prefix).partition(os.sep)
            if not rest:
                raise ValueError(
                    f'{info["img_path"]} has no label: it lies beside the folders of the classes. Move '
                    'it into one, or away'
                )
            folders.append(folder)
        classes = tuple(sorted(set(folders)))
        numbers = {name: number for number, name in enumerate(classes)}
        for info, folder in zip(data_list, folders):
            info['gt_label'] = numbers[folder]
        return classes

    def warn_of_empty_folders(self) -> None:
        """Name the folders that look like classes and are none."""
        if self.ann_file or self.folders:  # left out on purpose
            return
        empty = [
            entry.name
            for entry in os.scandir(self.img_prefix)
            if entry.is_dir() and entry.name not in self.classes and not entry.name.startswith('.')
        ]
        if empty:
            print_log(
                f'folders of {self.data_root} without an image are no classes ({len(empty)}): '
                f'{", ".join(sorted(empty)[:5])}',
                'current',
                logging.WARNING,
            )


def split_label(line: str) -> Optional[tuple[str, int]]:
    """Path and label of a line, None if it has no label."""
    path, _, label = line.rpartition(' ')
    return (path, int(label)) if path and label.isdecimal() else None
