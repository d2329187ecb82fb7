"""The newest checkpoint of a run that can be resumed."""

import glob
import logging
import os.path as osp
import re
from typing import Optional

from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from mcl_mm.transfer.checkpoint import is_resumable, read_file


def find_intact_checkpoint(work_dir: str, out_dir: Optional[str] = None) -> Optional[str]:
    """The newest checkpoint of a run that can be resumed; those that cannot get named in the log.

    Args:
        work_dir (str): Where the run's ``last_checkpoint`` is.
        out_dir (str, optional): ``out_dir`` of the run's CheckpointHook, which writes to a folder
            of the work dir's name in it. Defaults to None, the work dir.

    Returns:
        str, optional: Its path; None if there is no checkpoint of a run. Weights alone are none.

    Raises:
        ValueError: There are, and all are damaged.
    """
    newest = find_latest_checkpoint(work_dir)
    if newest and '://' in newest:  # fetched by MMEngine later
        return newest
    folders = {work_dir, osp.dirname(newest or '') or work_dir}
    if out_dir:
        folders.add(osp.join(out_dir, osp.basename(osp.abspath(work_dir))))
    found = [path for folder in folders for path in glob.glob(f'{glob.escape(folder)}/*.pth')]
    candidates = sorted(filter(progress, found), key=progress, reverse=True)
    if newest:  # what is beyond it was left by another run
        last = progress(newest) or (0, 0)
        candidates = [newest, *(c for c in candidates if progress(c) <= last and c != newest)]
    damaged = 0
    for path in candidates:
        reason = 'it holds no state of a run'
        try:
            if is_resumable(read_file(path)):
                return path
        except (OSError, ValueError) as error:  # it is damaged, or reading it would run code
            reason, damaged = str(error), damaged + 1
        print_log(f'Skipping the checkpoint {path}: {reason}', 'current', logging.WARNING)
    if damaged:
        raise ValueError(
            f'none of the {len(candidates)} checkpoint(s) in {work_dir} can be read, see above. To '
            'start from the beginning, choose another --work-dir'
        )
    return None


def progress(path: str) -> Optional[tuple[int, int]]:
    """Epochs (or iterations) and iterations inside the epoch by a checkpoint's name, if it is one."""
    match = re.fullmatch(r'(?:epoch|iter)_(\d+)(?:_iter_(\d+))?\.pth', osp.basename(path))
    return match and (int(match[1]), int(match[2] or 0))
