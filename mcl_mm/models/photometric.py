"""Colours and blur of whole batches on the device, with parameters of their own for every image."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from mcl_mm.registry import MODELS


def check_shares(**settings: float) -> None:
    """Refuse probabilities and strengths outside [0, 1].

    Raises:
        ValueError: Names the first.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ValueError(f'{name} must lie in [0, 1], got {value}')


def check_blur(sigma: Sequence[float]) -> None:
    """Refuse what is no range of standard deviations.

    Raises:
        ValueError: Its ends are not positive, or the wrong way round.
    """
    if not 0 < sigma[0] <= sigma[1]:
        raise ValueError(f'blur_sigma must be a range of positive numbers, got {sigma}')


@MODELS.register_module()
class PhotometricAugmentation(nn.Module):
    """Colour jitter, grayscale, Gaussian blur and solarisation, in this order, per image at random.

    Computes for a whole batch what ``ColorJitter``, ``Grayscale``, ``GaussianBlur`` and
    ``RandomSolarize`` of torchvision compute for one image: with the same parameters the same pixels
    within 0.01 of 255, in real numbers, where images of bytes are rounded after each step. The
    order of the four colour changes is drawn for each image, as there. Hue is turned in HSV, as
    there: a rotation in YIQ, which would be one more matrix, differs by 8 of 255 on average and 98
    at most on photographs turned by 0.1. The blur replicates edges, as Pillow does.

    All random numbers come from PyTorch's CPU generator, a dozen an image: the same seed gives the
    same images on every device, and nobody has to wait for the device.

    Args:
        brightness (float): Factor in ``1 -+ brightness``. Defaults to 0.4.
        contrast (float): Factor in ``1 -+ contrast``. Defaults to 0.4.
        saturation (float): Factor in ``1 -+ saturation``. Defaults to 0.2.
        hue (float): Shift in ``-+ hue`` turns of the colour circle. Defaults to 0.1.
        jitter_prob (float): Probability of these four together. Defaults to 0.8.
        gray_prob (float): Probability of grayscale. Defaults to 0.2.
        blur_prob (float): Probability of the blur. Defaults to 1.0.
        blur_sigma (Sequence[float]): Range of its standard deviation, pixels of a full view. Defaults
            to (0.1, 2.0).
        solarize_prob (float): Probability of solarisation. Defaults to 0.0.
        solarize_threshold (float): Values from here on, of 255, are inverted. Defaults to 128.

    Raises:
        ValueError: A probability outside [0, 1], or a strength that is none.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        jitter_prob: float = 0.8,
        gray_prob: float = 0.2,
        blur_prob: float = 1.0,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        solarize_prob: float = 0.0,
        solarize_threshold: float = 128,
    ) -> None:
        super().__init__()
        check_blur(blur_sigma)
        check_shares(
            brightness=brightness, contrast=contrast, saturation=saturation, jitter_prob=jitter_prob,
            gray_prob=gray_prob, blur_prob=blur_prob, solarize_prob=solarize_prob,
        )  # fmt: skip
        if not 0 <= hue <= 0.5:
            raise ValueError(f'hue must lie in [0, 0.5], got {hue}')
        self.strengths = (brightness, contrast, saturation)
        self.hue = hue
        self.jitter_prob = jitter_prob
        self.gray_prob = gray_prob
        self.blur_prob = blur_prob
        self.blur_sigma = blur_sigma
        self.solarize_prob = solarize_prob
        self.solarize_threshold = solarize_threshold

    @torch.no_grad()
    def forward(self, views: Tensor, scale: float = 1.0) -> Tensor:
        """Augment a batch.

        Args:
            views (Tensor): ``(B, 3, V, V)``, BGR in [0, 255], any dtype.
            scale (float): Side of these views over that of a full view, by which the blur shrinks.
                Defaults to 1.0.

        Returns:
            Tensor: ``(B, 3, V, V)``, float32 in [0, 255].

        Raises:
            ValueError: The views have other channels than three.
        """
        if views.shape[1] != 3:
            raise ValueError(
                f'PhotometricAugmentation changes colours of RGB, and these images have {views.shape[1]} '
                'channels: take ChannelAugmentation'
            )
        steps = self.plan(len(views), scale)
        with torch.autocast(views.device.type, enabled=False):
            x = views.to(torch.float32, copy=True)
            for step in steps:
                x = update(x, step)
            return x

    def plan(self, count: int, scale: float = 1.0) -> list['Step']:
        """Draw what happens to each image of a batch of ``count``, on the CPU; ``scale`` as above."""
        sigma = scale * torch.empty(count).uniform_(*self.blur_sigma)
        gray, blurred, solarized = (
            torch.rand(count) < p for p in (self.gray_prob, self.blur_prob, self.solarize_prob)
        )
        steps = list(self.plan_jitter(count))
        steps.append(Step(grayscale, gray.nonzero().flatten()))
        sigma = sigma[blurred]
        reach = math.ceil(4 * max(sigma.tolist(), default=0))
        steps.append(Step(gaussian_blur, blurred.nonzero().flatten(), sigma, reach))
        steps.append(Step(solarize, solarized.nonzero().flatten(), self.solarize_threshold))
        return steps

    def plan_jitter(self, count: int) -> Iterator['Step']:
        """Brightness, contrast, saturation and hue of each image, in an order of its own.

        The first three all mix the image with another one (black, its mean luma, its luma), so a
        single pass makes a different one of them in each image.
        """
        jittered = torch.rand(count) < self.jitter_prob
        kinds = torch.rand(count, 3).argsort(dim=1)  # 0 brightness, 1 contrast, 2 saturation
        strengths = torch.tensor(self.strengths)[kinds] * jittered[:, None]
        factors = 1 + strengths * torch.empty(count, 3).uniform_(-1, 1)
        shift = torch.empty(count).uniform_(-self.hue, self.hue)
        hue_turn = torch.randint(0, 4, (count,))  # after how many of the three
        for turn in range(4):
            now = (jittered & (hue_turn == turn)).nonzero().flatten()
            yield Step(shift_hue, now, shift[now])
            if turn < 3:
                yield Step(mix, torch.arange(count), kinds[:, turn], factors[:, turn])


class Step:
    """A change of some images of a batch; nothing of it has to be read from tensors.

    Args:
        change (Callable): What makes other images of images, ``(N, 3, V, V)``, and the arguments.
        index (Tensor): Which images of the batch, ``(N,)``, int64 on the CPU, ascending.
        *arguments: Tensors of these images, on the CPU, and numbers.
    """

    def __init__(self, change: Callable[..., Tensor], index: Tensor, *arguments) -> None:
        self.change, self.index, self.arguments = change, index, arguments


def update(x: Tensor, step: Step) -> Tensor:
    """Change some images of a batch, in place unless it is all of them."""
    if len(step.index) == len(x):
        return step.change(x, *step.arguments)
    if len(step.index) == 0:
        return x
    index = to_device(step.index, x)
    return x.index_copy_(0, index, step.change(x[index], *step.arguments))


def to_device(parameters: Tensor, x: Tensor) -> Tensor:
    """Send parameters of images to the device that holds them, without waiting for it."""
    return parameters.to(x.device, non_blocking=True)


def luma(x: Tensor) -> Tensor:
    """Brightness of BGR pixels by ITU-R BT.601, ``(B, 1, H, W)``, with torchvision's digits."""
    blue, green, red = x.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def grayscale(x: Tensor) -> Tensor:
    """Gray images, with three channels and memory of their own."""
    return luma(x).repeat(1, 3, 1, 1)


def mix(x: Tensor, kinds: Tensor, factors: Tensor) -> Tensor:
    """Brightness (0), contrast (1) or saturation (2): ``f x + (1 - f) other``, clipped.

    Args:
        x (Tensor): ``(B, 3, H, W)``.
        kinds (Tensor): Which of them, ``(B,)``, int64 on the CPU.
        factors (Tensor): ``f``, ``(B,)``, on the CPU.
    """
    weights = (kinds[:, None] == torch.arange(3)).to(x.dtype)  # one_hot would read the kinds
    weights = to_device(torch.cat([weights, factors[:, None]], dim=1), x)[..., None, None, None]
    _, of_mean, of_luma, factor = weights.unbind(1)
    gray = luma(x)
    other = of_mean * gray.mean(dim=(2, 3), keepdim=True) + of_luma * gray
    return torch.lerp(other, x, factor).clamp_(0, 255)


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of BGR images, ``(B, 3, H, W)``, in HSV.

    Args:
        x (Tensor): Images.
        shift (Tensor): Share of a full turn, ``(B,)``, on the CPU.
    """
    blue, green, red = x.unbind(1)
    low, high = torch.aminmax(x, dim=1)
    chroma = high - low
    safe = torch.where(chroma > 0, chroma, 1)
    # In sixths of a turn: 0 red, 2 green, 4 blue.
    hue = torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(high == red, (green - blue) / safe, hue)
    hue = hue + 6 * to_device(shift, x)[:, None, None]
    # https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    turned = []
    for offset in (1, 3, 5):
        k = (hue + offset).remainder(6)
        turned.append(high - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(turned, dim=1)


def gaussian_blur(x: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Blur square images, ``(B, 3, V, V)``, each by its own Gaussian; edges are replicated.

    As two products with ``(V, V)`` matrices, which costs a GPU less than a convolution with another
    kernel for every image.

    Args:
        x (Tensor): Images.
        sigma (Tensor): Standard deviations in pixels, ``(B,)``, on the CPU.
        reach (int): Pixels from the middle of a Gaussian to where it is cut off.
    """
    side = x.shape[-1]
    place = torch.arange(-reach, side + reach, device=x.device)
    distance = place - place[reach:-reach, None]  # (V, reach + V + reach)
    exponent = -0.5 / to_device(sigma, x)[:, None, None] ** 2
    matrix = (exponent * distance**2).exp()
    matrix = matrix / matrix.sum(dim=2, keepdim=True)
    inside = matrix[..., reach:-reach]
    inside[..., 0] += matrix[..., :reach].sum(dim=2)
    inside[..., -1] += matrix[..., -reach:].sum(dim=2)
    inside = inside[:, None]  # the same for all channels
    return inside @ x @ inside.mT


def solarize(x: Tensor, threshold: float) -> Tensor:
    """Invert values from ``threshold`` on, of 255."""
    return torch.where(x >= threshold, 255 - x, x)
