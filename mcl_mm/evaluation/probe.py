"""What the probes have in common: when they run, and that training does not notice."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.datasets import ResizeEdge
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms.v2 import functional as F

from mcl_mm.datasets.settings import check_number
from mcl_mm.datasets.worker_seed import seed_worker
from mcl_mm.engine.value_range_hook import channels_of, ranges_of
from mcl_mm.models.modules import unwrap
from mcl_mm.random_state import same_random_state


class ProbeImages(Dataset):
    """Annotated images, read as the pre-training images are.

    Args:
        items (list[dict]): Per image ``img_path`` and whatever the probe knows of it.
        pipeline (list): Transforms.

    Attributes:
        value_range (tuple, optional): What becomes black and white of images with more than 8 bits. None
            to begin with.
        channels (int, optional): Of a set with ``channels=N``. None to begin with.
    """

    def __init__(self, items: list[dict], pipeline: list) -> None:
        self.items, self.pipeline = items, Compose(pipeline)
        self.value_range = self.channels = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Optional[dict]:
        """One item with its index and image, ``(3, H, W)`` uint8 or with channels ``(C, H, W)``.

        None if it cannot be read.
        """
        item = dict(self.items[index], value_range=self.value_range, channels=self.channels)
        try:
            results = self.pipeline(item)
        except OSError as error:
            print_log(f'{error}; it is left out', 'current', logging.WARNING)
            return None
        image = results.pop('img')
        image = image[..., None] if image.ndim == 2 else image  # OpenCV drops a single channel
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return dict(results, index=index, image=image)


class ShortEdge(ResizeEdge):
    """Resize the shorter edge as Pillow does; images of N channels, which it cannot, likewise.

    Args:
        scale (int): Of the edge, pixels.
    """

    def __init__(self, scale: int) -> None:
        super().__init__(scale, edge='short', backend='pillow')

    def _resize_img(self, results: dict) -> None:
        if results.get('channels') is None:
            super()._resize_img(results)
            return
        width, height = results['scale']
        pixels = torch.from_numpy(results['img']).permute(2, 0, 1)
        image = F.resize(pixels, [height, width], antialias=True).permute(1, 2, 0).numpy()
        results.update(img=image, img_shape=image.shape[:2])


class Probe(Hook):
    """Measure what frozen features know, before, now and then during, and after training.

    The training does not notice: no statistics, no mode of a module and no random number generator
    is different afterwards. With several processes each takes its share of the images.

    A probe sets :attr:`name`, lists its images in :attr:`data` and implements :meth:`embed` and
    :meth:`score`.

    Args:
        interval (int): Epochs, or iterations, between two measurements.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        batch_size (int): Images read at once. Defaults to 32.
        num_workers (int): Processes that read images. Defaults to 2.
    """

    priority = 95  # after MMEngine has written its line and its checkpoint
    name: str
    data: ProbeImages

    def __init__(
        self, interval: int, by_epoch: bool = True, batch_size: int = 32, num_workers: int = 2
    ) -> None:
        probe = type(self).__name__
        check_number(f'interval of {probe}', interval, low=1, whole=True)
        check_number(f'batch_size of {probe}', batch_size, low=1, whole=True)
        check_number(f'num_workers of {probe}', num_workers, low=0, whole=True)
        self.interval, self.by_epoch = interval, by_epoch
        self.batch_size, self.num_workers = batch_size, num_workers

    def embed(self, model: nn.Module, batch: list[dict]) -> list[tuple[Tensor, Tensor]]:
        """Features ``(n, D)`` and labels ``(n,)`` of each image of a batch."""
        raise NotImplementedError

    def score(self, features: Tensor, labels: Tensor, images: Tensor) -> dict[str, float]:
        """What to log, from all features ``(N, D)``, labels and indices of images ``(N,)``."""
        raise NotImplementedError

    def at_start(self, runner: Runner) -> None:
        """Refuse to count what the run does not.

        Raises:
            ValueError: The run has no epochs.
        """
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                f'{type(self).__name__} counts epochs, and a run by iterations has none: give it '
                'by_epoch=False, and its interval in iterations'
            )

    def before_train(self, runner: Runner) -> None:
        """Read images with the one value range of the training set, and measure the initial weights."""
        ranges = ranges_of(runner.train_dataloader.dataset)
        if len(ranges) == 1:
            self.data.value_range = tuple(ranges[0])
        self.data.channels = channels_of(runner.train_dataloader.dataset)
        if runner.iter == 0:
            self.run(runner, step=0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure every ``interval`` epochs and after the last."""
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)
        ):
            self.run(runner, step=runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Measure every ``interval`` iterations and after the last."""
        if not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        ):
            self.run(runner, step=runner.iter + 1)

    def run(self, runner: Runner, step: int) -> dict[str, float]:
        """Measure and log.

        Args:
            runner (Runner): Its model is measured.
            step (int): Iterations done.

        Returns:
            dict[str, float]: What :meth:`score` gives, names preceded by :attr:`name`.
        """
        start = time.time()
        model = unwrap(runner.model)
        with undisturbed(model):
            scalars = self.score(*self.features(model))
        scalars = {f'{self.name}_{key}': value for key, value in scalars.items()}
        text = '  '.join(f'{key}: {value:.4f}' for key, value in scalars.items())
        runner.logger.info(
            f'{type(self).__name__} after {step} iterations  {text}  ({time.time() - start:.1f} s)'
        )
        runner.visualizer.add_scalars(scalars, step=step)
        return scalars

    def features(self, model: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Features, labels and indices of images, of all images on every process."""
        mine = range(get_rank(), len(self.data), get_world_size())
        loader = DataLoader(
            Subset(self.data, mine),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=list,
            worker_init_fn=seed_worker,
            generator=torch.Generator(),
        )
        found = []
        for batch in loader:
            batch = [item for item in batch if item is not None]
            if batch:
                for item, (feature, label) in zip(batch, self.embed(model, batch)):
                    image = torch.full((len(label),), item['index'])
                    found.append((feature.float().cpu(), label.cpu(), image))
        # Whole arrays: a tensor that is part of another would take all of that along.
        mine = [torch.cat(part).numpy() for part in zip(*found)]
        parts = [part for part in all_gather_object(mine) if part]
        if not parts:
            raise ValueError(f'none of the images of {type(self).__name__} can be read')
        device = next(model.parameters()).device
        features, labels, images = (
            torch.from_numpy(np.concatenate(part)).to(device) for part in zip(*parts)
        )
        order = images.argsort(stable=True)
        return features[order], labels[order], images[order]


def normalise(model: nn.Module, images: Tensor) -> Tensor:
    """Images as the model's own data preprocessor hands them to it, whatever else that one does.

    Args:
        model (nn.Module): Of any method of MMEngine's libraries.
        images (Tensor): ``(N, C, H, W)``, BGR or the channels of the set, in [0, 255].

    Returns:
        Tensor: The same shape, float32, on the model's device.
    """
    preprocessor = model.data_preprocessor
    images = images.to(next(model.parameters()).device)
    # MMEngine's and the detectors' preprocessors call it the one, those of classifiers the other.
    if getattr(preprocessor, '_channel_conversion', False) or getattr(
        preprocessor, 'to_rgb', False
    ):
        images = images.flip(1)
    images = images.float()
    if getattr(preprocessor, 'mean', None) is not None:
        images = (images - preprocessor.mean) / preprocessor.std
    return images


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random number generators are put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with same_random_state(), torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
