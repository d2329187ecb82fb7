"""Does an evaluator count the images that are detected on?"""

import logging
from os.path import basename
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log

from mcl_mm.datasets.seeded_sampler import inner_sets


def check_evaluated_images(dataset: Any, evaluator: Evaluator, name: str) -> None:
    """Compare the images of a data set with those of the files that its evaluator reads by itself.

    Metrics of COCO's kind have an ``ann_file`` of their own. Detections meet its labels by the number of the
    image. So those of one file are counted against those of another without any error.

    Args:
        dataset (Any): Of a detector, or wrappers around it.
        evaluator (Evaluator): Its metrics may have read a file of labels.
        name (str): What a config calls the evaluator, ``'val_evaluator'`` or ``'test_evaluator'``.

    Raises:
        ValueError: A number is another image in the evaluator's file, or none.
    """
    sets = [part for part in inner_sets(dataset) if isinstance(part, BaseDataset)]
    tables = [table for metric in evaluator.metrics if (table := images_of(metric))]
    if len(sets) != 1 or not tables:
        return
    read = [sets[0].get_data_info(index) for index in range(len(sets[0]))]
    read = {
        info['img_id']: basename(str(info.get('img_path'))) for info in read if 'img_id' in info
    }
    for table in tables:
        for number, path in read.items():
            # LVIS has addresses of images in the place of names.
            known = table[number].get('file_name', path) if number in table else 'no image'
            if basename(known) != path:
                raise ValueError(
                    f'{name} reads labels of other images than the data set: image {number} is {path} in '
                    f'{sets[0].ann_file}, and {known} in the file of {name}. Set {name}.ann_file to '
                    f'{sets[0].ann_file}'
                )
        if read and len(table) > len(read):
            print_log(
                f'{name} knows {len(table)} images, and the data set reads {len(read)} of them: all objects '
                f'of the others count as missed. Set {name}.ann_file to a file of those that are read',
                'current',
                logging.WARNING,
            )


def images_of(metric: Any) -> dict:
    """Images by number that a metric has read from a file of its own; none of most metrics."""
    for name in ('_coco_api', '_lvis_api'):  # MMDetection has no public way to them
        if labels := getattr(metric, name, None):
            return getattr(labels, 'imgs', {})
    return {}
