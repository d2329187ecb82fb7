"""Changes of values that mean something on any channel, where hue and saturation mean nothing."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mcl_mm.registry import MODELS

from .photometric import Step, check_blur, check_shares, gaussian_blur, to_device, update


@MODELS.register_module()
class ChannelAugmentation(nn.Module):
    """Brightness, gain of each channel, contrast and Gaussian blur, in this order, per image at random.

    What :class:`PhotometricAugmentation` is for RGB, for images of any number of channels: thermal,
    depth, satellite bands, stains. Contrast goes to the mean of each channel, for there is no gray
    that channels of other sensors have in common. The blur is the same in all channels.

    All random numbers come from PyTorch's CPU generator: the same seed gives the same images on every
    device.

    Args:
        brightness (float): Factor of all channels, in ``1 -+ brightness``. Defaults to 0.4.
        contrast (float): Factor of distances to a channel's mean, in ``1 -+ contrast``. Defaults to 0.4.
        gain (float): Factor of each channel by itself, in ``1 -+ gain``. Defaults to 0.1.
        jitter_prob (float): Probability of these three together. Defaults to 0.8.
        blur_prob (float): Probability of the blur. Defaults to 1.0.
        blur_sigma (Sequence[float]): Range of its standard deviation, pixels of a full view. Defaults
            to (0.1, 2.0).

    Raises:
        ValueError: A probability or a strength outside [0, 1], or no range of the blur.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        gain: float = 0.1,
        jitter_prob: float = 0.8,
        blur_prob: float = 1.0,
        blur_sigma: Sequence[float] = (0.1, 2.0),
    ) -> None:
        super().__init__()
        check_blur(blur_sigma)
        check_shares(
            brightness=brightness, contrast=contrast, gain=gain, jitter_prob=jitter_prob,
            blur_prob=blur_prob,
        )  # fmt: skip
        self.brightness, self.contrast, self.gain = brightness, contrast, gain
        self.jitter_prob, self.blur_prob, self.blur_sigma = jitter_prob, blur_prob, blur_sigma

    @torch.no_grad()
    def forward(self, views: Tensor, scale: float = 1.0) -> Tensor:
        """Augment a batch.

        Args:
            views (Tensor): ``(B, C, V, V)``, in [0, 255], any dtype.
            scale (float): Side of these views over that of a full view, by which the blur shrinks.
                Defaults to 1.0.

        Returns:
            Tensor: ``(B, C, V, V)``, float32 in [0, 255].
        """
        factors, contrast, blur = self.plan(*views.shape[:2], scale)
        with torch.autocast(views.device.type, enabled=False):
            x = views.to(torch.float32, copy=True)
            x = (x * to_device(factors, x)[..., None, None]).clamp_(0, 255)
            mean = x.mean(dim=(2, 3), keepdim=True)
            x = torch.lerp(mean, x, to_device(contrast, x)[:, None, None, None]).clamp_(0, 255)
            return update(x, blur)

    def plan(self, count: int, channels: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Step]:
        """Draw what happens to each image of a batch, on the CPU.

        Returns:
            tuple: Factors of channels, ``(count, channels)``; of distances to means, ``(count,)``; the blur.
        """
        jittered = (torch.rand(count) < self.jitter_prob).float()[:, None]

        def around_one(strength: float, columns: int) -> Tensor:
            return 1 + strength * jittered * torch.empty(count, columns).uniform_(-1, 1)

        factors = around_one(self.brightness, 1) * around_one(self.gain, channels)
        contrast = around_one(self.contrast, 1)[:, 0]
        blurred = torch.rand(count) < self.blur_prob
        sigma = scale * torch.empty(count).uniform_(*self.blur_sigma)[blurred]
        reach = math.ceil(4 * max(sigma.tolist(), default=0))
        return factors, contrast, Step(gaussian_blur, blurred.nonzero().flatten(), sigma, reach)
