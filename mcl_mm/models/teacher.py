"""A network that is finished with learning, and what another one is to learn from it."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from mcl_mm.registry import MODELS

DTYPES = ('float32', 'bfloat16', 'float16')


@MODELS.register_module()
class Teacher:
    """Embed images by a frozen network, as it was trained to see them.

    The network is in evaluation mode and gets no gradient. A ``Teacher`` is no module: the model that
    holds it has none of its weights among its parameters, so they are in no checkpoint, export or optimiser
    and are not exchanged between processes. A copy of the model, such as a moving average, shares it.

    Args:
        backbone (dict): Any backbone of mmpretrain or, as ``mmpretrain.TIMMBackbone``, of timm; with the
            file of its weights, as ``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix=...)``,
            ``pretrained=True`` or ``checkpoint_path=FILE`` of timm.
        size (int): Side of the images it is given, pixels. Defaults to 224.
        mean (Sequence[float]): Per channel in the range 0 to 255. Defaults to ImageNet's.
        std (Sequence[float]): Likewise. Defaults to ImageNet's.
        bgr_to_rgb (bool): It takes RGB; images come as BGR. Defaults to True.
        dtype (str): What it computes in, whatever the student does: ``'float32'``, or by autocast
            ``'bfloat16'`` or ``'float16'``. Defaults to ``'float32'``.

    Raises:
        ValueError: The network cannot be built or does not run on such images, or a setting is of a wrong
            kind.
    """

    def __init__(
        self,
        backbone: dict,
        size: int = 224,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = True,
        dtype: str = 'float32',
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'model.teacher.dtype must be one of {DTYPES}, got {dtype!r}')
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                'model.teacher.mean and std must be three numbers, those of std positive, got '
                f'{list(mean)} and {list(std)}'
            )
        try:
            self.backbone = MODELS.build(backbone).requires_grad_(False)
        except Exception as error:  # foreign code; timm also loads, or fetches, weights here
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f'model.teacher.backbone cannot be built: {reason}') from error
        self.backbone.eval()  # some backbones of OpenMMLab do not return themselves from it
        self.size, self.mean, self.std = size, list(mean), list(std)
        self.bgr_to_rgb, self.dtype = bgr_to_rgb, 'float32'
        self.channels = self._channels()  # the same in any precision; many CPUs lack the lower ones
        self.dtype = dtype
        self._fingerprint = ''

    def init_weights(self) -> None:
        """Load the weights from the file that the config of the backbone names."""
        self.backbone.init_weights()
        self._fingerprint = ''

    @torch.compiler.disable
    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images (Tensor): As they were read, ``(N, 3, size, size)``, BGR in [0, 255], uint8 or float. Or
                embeddings, ``(N, D)``, that it has given before: they are given back.

        Returns:
            Tensor: ``(N, D)``, float32: the class token of a transformer, the mean of a map.

        Raises:
            ValueError: The images have another size.
        """
        if images.dim() == 2:
            return images
        if images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f'model.teacher takes images of (3, {self.size}, {self.size}), got '
                f'{tuple(images.shape[1:])}: give TeacherView the size of model.teacher'
            )
        self.backbone.to(images.device)
        images = images.flip(1) if self.bgr_to_rgb else images
        images = F.normalize(images.float(), self.mean, self.std)
        dtype, lower = getattr(torch, self.dtype), self.dtype != 'float32'
        with torch.autocast(images.device.type, dtype if lower else None, enabled=lower):
            output = self.backbone(images)
        return pool(output, num_prefix_tokens(self.backbone)).float()

    def fingerprint(self) -> str:
        """What another teacher has another of: a digest of the weights and of how images are prepared.

        Computed once, since every checkpoint has it and the weights may be gigabytes.
        """
        if self._fingerprint:
            return self._fingerprint
        digest = hashlib.sha256(repr((self.size, self.mean, self.std, self.bgr_to_rgb)).encode())
        for name, value in self.backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def _channels(self) -> int:
        """``D``, found by running the network."""
        try:
            return self(torch.zeros(1, 3, self.size, self.size)).shape[1]
        except Exception as error:  # foreign code
            raise ValueError(
                f'model.teacher ({type(self.backbone).__name__}) gives no embedding of an image of '
                f'{self.size} pixels: {error}'
            ) from error

    def __deepcopy__(self, memo: dict) -> 'Teacher':
        return self  # nothing of it changes


def pool(output: Any, prefix_tokens: int = 1) -> Tensor:
    """One embedding per image of what a network gives.

    Args:
        output (Any): ``(N, D)``, as it is; a map ``(N, D, H, W)``, averaged; or tokens ``(N, T, D)``, of
            which the first is taken, the class token. Of several outputs the last.
        prefix_tokens (int): Tokens before those of places. Without any the others are averaged. Defaults
            to 1.

    Returns:
        Tensor: ``(N, D)``.

    Raises:
        ValueError: It is nothing of these.
    """
    last = output[-1] if isinstance(output, (list, tuple)) else output
    if not torch.is_tensor(last) or last.dim() not in (2, 3, 4):
        raise ValueError('its last output is neither an embedding nor a map nor tokens')
    if last.dim() == 4:
        return last.float().mean(dim=(2, 3))
    if last.dim() == 3:
        return last[:, 0] if prefix_tokens else last.float().mean(dim=1)
    return last


def num_prefix_tokens(backbone: nn.Module) -> int:
    """Of a transformer, as timm says; those of mmpretrain give a class token or a map by themselves."""
    return getattr(getattr(backbone, 'timm_model', backbone), 'num_prefix_tokens', 1)
