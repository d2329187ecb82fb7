"""What a teacher makes of all images of a run, for a file that spares it from running again."""

import sys

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from mcl_mm.datasets.teacher_view import find_teacher_view
from mcl_mm.engine.teacher_check import check_teacher
from mcl_mm.reading import building
from mcl_mm.registry import DATASETS, MODELS

from .probe import ProbeImages


class Whole:
    """The last transform of the images for a teacher."""

    def __init__(self, view: object) -> None:
        self.view = view

    def __call__(self, results: dict) -> dict:
        """Replace ``img`` by the whole image at the teacher's size."""
        return dict(results, img=self.view.whole(results['img']))


@torch.no_grad()
def embed_by_teacher(
    cfg: Config, device: str, batch_size: int = 64, workers: int = 2
) -> tuple[list[str], Tensor, dict[str, str]]:
    """Embed all images of a run by its teacher, as the run would.

    Args:
        cfg (Config): Of a run of :class:`~mcl_mm.models.DistilledMCL`.
        device (str): That computes.
        batch_size (int): Images computed at once. Defaults to 64.
        workers (int): Processes that read images. Defaults to 2.

    Returns:
        tuple: What :func:`~mcl_mm.datasets.teacher_cache.write_cache` takes: paths, embeddings, and what
        made them.

    Raises:
        OSError: Images or weights cannot be read.
        ValueError: The config has no teacher, or that one cannot teach.
    """
    if 'teacher' not in (cfg.get('model') or {}):
        raise ValueError(f'{cfg.filename} has no model.teacher')
    with building(cfg.filename), DefaultScope.overwrite_default_scope('mcl_mm'):
        loader = dict(cfg.train_dataloader.dataset)
        teacher, dataset = MODELS.build(cfg.model.teacher), DATASETS.build(loader)
    check_teacher(teacher)
    view, before, text = find_teacher_view(dataset)
    if view is None:
        raise ValueError(
            f'the pipeline of train_dataloader.dataset in {cfg.filename} has no TeacherView'
        )
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    images = ProbeImages(infos, [*before, Whole(view)])
    images.value_range = getattr(dataset, 'value_range', None)
    embeddings = torch.full((len(infos), teacher.channels), float('nan'))
    loader = DataLoader(images, batch_size, num_workers=workers, collate_fn=list)
    for batch in track(loader, 'embedding', console=Console(file=sys.stderr)):
        read = [item for item in batch if item is not None]
        if read:
            found = teacher(torch.stack([item['image'] for item in read]).to(device))
            embeddings[[item['index'] for item in read]] = found.cpu()
    names = [info['img_path'] for info in infos]
    return names, embeddings, dict(teacher=teacher.fingerprint(), view=text)
