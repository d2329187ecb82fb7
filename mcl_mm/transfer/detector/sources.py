"""Files that parts of a model start from, by ``init_cfg=dict(type='Pretrained')`` or ``pretrained``."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Optional

from mmengine.config import Config
from torch import Tensor, nn

from mcl_mm.config import type_name
from mcl_mm.transfer.checkpoint import read_checkpoint

from .child_config import Change, item
from .finding import line_of

# Arguments by which a part of a model starts from a file of its own.
SOURCES = ('init_cfg', 'pretrained')
# MMEngine's initialiser from a file: its name in the registry, and that of its class.
INITIALISERS = ('Pretrained', 'PretrainedInit')


class Source(NamedTuple):
    """A file that one part of a model starts from.

    Attributes:
        where (str): The part, such as ``'backbone'``; empty for the model itself.
        path (str): The file, as the config names it.
        prefix (str, optional): What the names of the part begin with in the file.
        weights (dict[str, Tensor]): All that is in the file.
        meta (dict): What the file tells of itself.
        wrapped (bool): Its names begin with ``module.``, which MMEngine removes unless there is a prefix.
        by_name (bool): The part takes them by their names; some backbones of MMDetection rename them.
    """

    where: str
    path: str
    prefix: Optional[str]
    weights: dict[str, Tensor]
    meta: dict
    wrapped: bool
    by_name: bool

    def state_dict(self) -> dict[str, Tensor]:
        """The weights under the names of the part."""
        if not self.prefix:
            return self.weights
        start = self.prefix.rstrip('.') + '.'
        if self.wrapped:
            start = (
                start.removeprefix('module.') if start.startswith('module.') else f'module.{start}'
            )
        return {k.removeprefix(start): v for k, v in self.weights.items() if k.startswith(start)}


def sources_of(model: nn.Module) -> Iterator[Source]:
    """The files that a model's parts will start from, read as the run will read them.

    Parts that rename what they read (``convert_weights``) are left to do so.

    Args:
        model (nn.Module): The model, not wrapped.

    Raises:
        OSError, ValueError: A file cannot be read.
    """
    for where, module in model.named_modules():
        init_cfgs = getattr(module, 'init_cfg', None) or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
            if type_name(init_cfg) not in INITIALISERS or getattr(module, 'convert_weights', False):
                continue
            path = init_cfg['checkpoint']
            checkpoint = read_checkpoint(path)
            content = (checkpoint[key] for key in ('state_dict', 'meta', 'wrapped'))
            yield Source(where, path, init_cfg.get('prefix'), *content, by_name(module))


def by_name(module: nn.Module) -> bool:
    """Whether a part changes nothing of what it loads, as transformers do with tables of positions."""
    return not any(part._load_state_dict_pre_hooks for part in module.modules())


def gather(model: nn.Module) -> Optional[dict]:
    """What all sources of a model put into it, as one checkpoint under the model's names.

    Args:
        model (nn.Module): The model, not wrapped.

    Returns:
        dict | None: ``state_dict``, ``meta`` (the first file's) and ``path`` (all files, as text); None if
        there is no source.
    """
    sources = list(sources_of(model))
    if not sources:
        return None
    state_dict = {
        f'{source.where}.{name}'.lstrip('.'): value
        for source in sources
        for name, value in source.state_dict().items()
    }
    path = ', '.join(dict.fromkeys(source.path for source in sources))
    return dict(state_dict=state_dict, meta=sources[0].meta, path=path)


def best_prefix(
    part: nn.Module, state_dict: dict[str, Tensor], wrapped: bool = False
) -> Optional[str]:
    """Behind which prefix a file has the names and shapes of a part of a model.

    Args:
        part (nn.Module): The part.
        state_dict (dict[str, Tensor]): The file's weights.
        wrapped (bool): In the file, each name begins with ``module.``. Defaults to False.

    Returns:
        str | None: As a config has to give it, without its last dot; empty if the names begin as the
        part's do. None if there is no prefix behind which at least half of the part is found.
    """
    own = {name: value.shape for name, value in part.state_dict().items()}
    found = Counter()
    for name, value in state_dict.items():
        pieces = name.split('.')
        for start in range(len(pieces)):
            if own.get('.'.join(pieces[start:])) == value.shape:
                found['.'.join(pieces[:start])] += 1
    prefix, count = max(found.items(), key=lambda item: item[1], default=(None, 0))
    if 2 * count < len(own):
        return None
    return f'module.{prefix}' if wrapped and prefix else prefix


def source_line(path: str, prefixes: dict[str, str], cfg: Optional[Config] = None) -> str:
    """The line of a config that starts parts of a model from a file.

    Args:
        path (str): The file.
        prefixes (dict[str, str]): By part, such as ``'model.backbone'``: what its names begin with there.
        cfg (Config, optional): The config that the line is for. Defaults to None: it has nothing that is
            in the way.
    """
    changes = []
    for where, prefix in prefixes.items():
        # Merged with what the config has there: a prefix of its own has to go.
        init_cfg = dict(type='Pretrained', checkpoint=path, prefix=prefix or None)
        changes.append(Change(f'{where}.init_cfg', init_cfg, ''))
        part = cfg
        for key in where.split('.'):
            part = item(part or {}, key)
        if isinstance(part, dict) and part.get('pretrained'):
            changes.append(Change(f'{where}.pretrained', None, ''))
    return line_of(changes, cfg)


def start_is_a_file(source: object) -> bool:
    """Whether an ``init_cfg``, or an older ``pretrained``, reads weights from a file."""
    if isinstance(source, (list, tuple)):
        return any(map(start_is_a_file, source))
    return isinstance(source, str) or (
        isinstance(source, dict) and type_name(source) in INITIALISERS
    )
