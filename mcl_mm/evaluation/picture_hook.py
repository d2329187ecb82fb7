"""Pictures of a run wherever its scalars go: TensorBoard, Weights & Biases, MLflow and the like."""

from pathlib import Path

import cv2
import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mcl_mm.models import MontageModel
from mcl_mm.models.modules import unwrap
from mcl_mm.random_state import same_random_state
from mcl_mm.registry import HOOKS

from .montage_picture import build_montage, draw_side


@HOOKS.register_module()
class PictureHook(Hook):
    """Show the sheets of a montage before training, and the page of the run after it.

    The pictures are ``montage.png`` and ``run.png``: MLflow wants names of files. Every backend of the
    run's visualizer gets them. The page also lies in the work directory, as ``mcl-mm plot`` writes it.
    Training does not notice. A run of another method has the page alone.

    Args:
        images (int): Images of a montage, at most all there are. Defaults to 32.

    Raises:
        ValueError: ``images`` is below 1.
        OSError: Matplotlib, which draws the page, is not installed. Said before training.
    """

    priority = 'VERY_LOW'  # after the last checkpoint and the last probe

    def __init__(self, images: int = 32) -> None:
        if images < 1:
            raise ValueError(f'images of PictureHook must be at least 1, got {images}')
        self.images = images

    def before_train(self, runner: Runner) -> None:
        """Show one sheet of each level, for both sides."""
        from . import run_page  # noqa: F401  (needs matplotlib, which may be missing)

        if not is_main_process() or not isinstance(unwrap(runner.model), MontageModel):
            return
        images = runner.train_dataloader.dataset
        with same_random_state(), DefaultScope.overwrite_default_scope('mcl_mm'):
            sides = build_montage(runner.cfg, self.images, 0, images)
        self.show(runner, 'montage.png', np.vstack(list(map(draw_side, sides, 'qk'))))

    def after_train(self, runner: Runner) -> None:
        """Write the page and show it."""
        from .run_page import write_page

        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        with same_random_state(), DefaultScope.overwrite_default_scope('mcl_mm'):
            sentences = write_page([folder], folder, self.images)
        runner.logger.info('\n'.join([*sentences, str(folder / 'run.html')]))
        self.show(runner, 'run.png', cv2.imread(str(folder / 'run.png')))

    def show(self, runner: Runner, name: str, picture: np.ndarray) -> None:
        """Hand a picture, ``(H, W, 3)`` uint8 BGR, to all backends."""
        picture = np.ascontiguousarray(picture[..., ::-1])
        runner.visualizer.add_image(name, picture, step=runner.iter)
