"""Scalars on the local disk, for which a full one does not end a run."""

import logging

from mmengine.fileio import dump
from mmengine.logging import print_log
from mmengine.visualization import vis_backend

from mcl_mm.files import append_text


class LocalVisBackend(vis_backend.LocalVisBackend):
    """MMEngine's, which leaves out the lines that cannot be written, and says so once."""

    told = False

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        try:
            append_text(file_path, f'{dump(value_dict, file_format=file_format)}\n')
        except OSError as error:
            if not self.told:
                print_log(
                    f'{file_path} could not be written ({error}). Training goes on; such lines are '
                    'missing from the curves.',
                    'current',
                    logging.WARNING,
                )
            self.told = True
