"""A folder of images with a class each."""

import logging
import os
from collections.abc import Sequence
from typing import Any, Optional

from mmengine.logging import print_log

from mcl_mm.registry import DATASETS

from .decoding import shown
from .lists import split_label
from .names import is_hidden
from .seeded_sampler import inner_sets
from .storage import find_table, unpacked
from .unlabelled_images import UnlabelledImages


@DATASETS.register_module()
class LabelledImages(UnlabelledImages):
    """Images in one folder per class, or in a list with labels; else as :class:`UnlabelledImages`.

    Shards may hold a ``.cls`` file with an integer beside each image, tables a column of labels.

    Without a list that has labels, the folders directly below ``data_root``, sorted by name, are the
    classes 0, 1, ...; their images may be nested further. A folder without images is no class and is
    warned of. The image that stands in for a bad one brings its own label.

    Args:
        data_root (str): The folder.
        ann_file (str): A text file with a path relative to ``data_root`` and a label (an integer from
            0), separated by a space, on each line; or with paths alone, whose first folders are the
            classes, as ``check-images --list`` writes it. Defaults to '', all images.
        classes (Sequence[str]): Names of the folders, in the order of their numbers; one of them may
            lack images. Defaults to None, all folders that have some, sorted.
        **kwargs: The rest of :class:`UnlabelledImages`.

    Attributes:
        num_classes (int): Folders, or the largest label of a list and one more.

    Raises:
        FileNotFoundError, ValueError: As :class:`UnlabelledImages`; or an image has no label, one that
            is no integer from 0, or all have the same; or ``classes`` lack a folder.
    """

    LABELS = True

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
        if 'gt_label' in data_list[0]:
            self.num_classes = max(info['gt_label'] for info in data_list) + 1
            self.take_class_names(getattr(self.store, 'class_names', None))
        else:
            self._metainfo['classes'] = self.label_by_folder(data_list)
            self.num_classes = len(self.classes)
        if len({info['gt_label'] for info in data_list}) < 2:
            raise ValueError(
                f'all {len(data_list)} images of {self.ann_file or self.img_prefix} are of one class, '
                'from which nothing can be learned: give data_root a folder for each class'
            )
        return data_list

    def take_class_names(self, names: Optional[tuple[str, ...]]) -> None:
        """Keep the names that a table has for its classes, if it has any."""
        if not names:
            return
        if self.classes not in (None, names):
            raise ValueError(
                f'{self.data_root} has other classes than classes says: {", ".join(names[:5])}, ...'
            )
        self._metainfo['classes'], self.num_classes = names, len(names)

    def read_list(self, lines: Sequence[tuple[int, str]]) -> list[dict]:
        """The images of a list, and their labels if there are any."""
        labelled = [split_label(line) for _, line in lines]
        if not any(labelled):
            return self.with_stored_labels([self.path_of(line) for _, line in lines])
        for (number, line), found in zip(lines, labelled):
            if found is None:
                raise ValueError(
                    f'line {number} of {self.ann_file} has no label: it should end in a space and an '
                    f'integer from 0, got {os.path.basename(line)!r}'
                )
        return [dict(img_path=self.path_of(name), gt_label=n) for name, n in labelled]

    def with_stored_labels(self, paths: Sequence[str]) -> list[dict]:
        """The images of a list without labels, with those that shards or a table have for them."""
        if self.store is None and unpacked(paths[0]) != paths[0]:
            self.store = find_table(self.img_prefix, self.table)
        stored = self.store.find((), self.extensions, labels=True)[0] if self.store else []
        labels = {info['img_path']: info['gt_label'] for info in stored if 'gt_label' in info}
        if not labels:
            return [dict(img_path=path) for path in paths]
        unknown = [path for path in paths if path not in labels]
        if unknown:
            raise ValueError(
                f'{shown(unknown[0])} of {self.ann_file} has no label: {self.data_root} does not hold it'
            )
        return [dict(img_path=path, gt_label=labels[path]) for path in paths]

    def label_by_folder(self, data_list: Sequence[dict]) -> tuple[str, ...]:
        """Number the folders below the root, or those of ``classes``; returns their names."""
        folders = [self.folder_of(info['img_path']) for info in data_list]
        found = tuple(sorted(set(folders)))
        classes = self.classes or found
        if set(found) - set(classes):
            raise ValueError(
                f'{self.data_root} has folders that are not among classes: '
                f'{", ".join(sorted(set(found) - set(classes))[:5])}'
            )
        if classes is found:
            self.warn_of_empty_folders(found)
        numbers = {name: number for number, name in enumerate(classes)}
        for info, folder in zip(data_list, folders):
            info['gt_label'] = numbers[folder]
        return tuple(classes)

    def folder_of(self, path: str) -> str:
        """The folder directly below the root that an image lies in.

        Raises:
            ValueError: It lies in none.
        """
        folder, _, rest = os.path.relpath(unpacked(path), self.img_prefix).partition(os.sep)
        if rest and folder != os.pardir:
            return folder
        if folder == os.pardir:
            where = f'it lies outside {self.data_root}. Write a label behind each path of the list'
        else:
            where = (
                'it lies beside the folders of the classes. Move it into one, or away; or write a list '
                'with a path and a label on each line, and give it as ann_file'
            )
        raise ValueError(f'{shown(path)} has no label: {where}')

    def get_cat_ids(self, idx: int) -> list[int]:
        """The class of an image, for MMEngine's ``ClassBalancedDataset``."""
        return [self.get_data_info(idx)['gt_label']]

    def warn_of_empty_folders(self, classes: Sequence[str]) -> None:
        """Name the folders that look like classes and are none."""
        if self.ann_file or self.folders or self.store:  # left out on purpose, or none at all
            return
        empty = [
            shown(entry.name)
            for entry in os.scandir(self.img_prefix)
            if entry.is_dir() and entry.name not in classes and not is_hidden(entry.name)
        ]
        if empty:
            print_log(
                f'folders of {self.data_root} without an image are no classes ({len(empty)}): '
                f'{", ".join(sorted(empty)[:5])}',
                'current',
                logging.WARNING,
            )


def labelled_sets(dataset: Any) -> list[LabelledImages]:
    """The labelled sets in a data set: itself, or those inside of wrappers."""
    return [part for part in inner_sets(dataset) if isinstance(part, LabelledImages)]
