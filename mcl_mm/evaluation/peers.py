"""Other methods on the data, the network and the schedule of an MCL run."""

import copy

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope

from mcl_mm.config import RECIPES, type_name
from mcl_mm.models.montage_model import feature_maps
from mcl_mm.registry import DATASETS, MODELS

from .cost import side_settings

PEERS = ('mocov2', 'densecl', 'byol', 'supervised')
PUBLISHED = 0.99  # base momentum of MCL's target


def derive_peer(cfg: Config, name: str, data: str, gpus: int = 1) -> Config:
    """What another method would be in the place of an MCL run.

    Its model is mmpretrain's, as in ``configs/peers``, on the backbone of the run; its hidden layers are
    as wide, in backbone channels, as they are on a ResNet-50. It sees one view of either side's kind of
    each image (supervised: one of the two). A queue holds half of the images at most. Where the run's
    target follows faster than the published one, the peer's follows as fast. All else is the run's own:
    optimiser, schedule, batches.

    Args:
        cfg (Config): Of an MCL run.
        name (str): One of :data:`PEERS`.
        data (str): Folder of images; for ``'supervised'`` with a folder a class.
        gpus (int): Processes of the run. Defaults to 1.

    Returns:
        Config: Of the peer's run.

    Raises:
        OSError, ValueError: The config is not MCL's, or its images or backbone are of no use to a peer.
    """
    if type_name(cfg.get('model') or {}) != 'MCL':
        raise ValueError(f'{name} is derived from an MCL config, which {cfg.filename} is not')
    peer = Config.fromfile(str(RECIPES / 'peers' / '_base_' / f'{name}_r50.py'))
    settings = cfg.to_dict()
    model = peer.model.to_dict()
    model['data_preprocessor'].update(pixels_of(settings['model'], supervised=name == 'supervised'))
    model['backbone'], width = last_stage(settings['model']['backbone'])
    fit_heads(model, width, settings['model']['neck'].get('embed_channels', 256))
    momentum = target_momentum(settings)
    if momentum != PUBLISHED and 'momentum' in model:
        model['momentum'] = round(1 - momentum, 9)
    if momentum != PUBLISHED and 'base_momentum' in model:
        model['base_momentum'] = round(1 - momentum, 9)
    dataset = settings['train_dataloader']['dataset']
    dataset['pipeline'] = views_of(dataset['pipeline'], supervised=name == 'supervised')
    if name == 'supervised':
        dataset['type'] = 'mcl_mm.LabelledImages'
        classes = images_of(dataset, data).num_classes
        model['head'].update(num_classes=classes, topk=tuple(k for k in (1, 5) if k <= classes))
        model['data_preprocessor']['num_classes'] = classes
    if 'queue_len' in model:
        step = settings['train_dataloader']['batch_size'] * gpus
        half = len(images_of(dataset, data)) // 2
        model['queue_len'] = max(1, min(model['queue_len'], half) // step) * step
    if 'find_unused_parameters' in peer:
        settings['find_unused_parameters'] = peer.find_unused_parameters
    settings.update(model=model, custom_hooks=[])
    return Config(settings, filename=cfg.filename)


def images_of(dataset: dict, data: str) -> BaseDataset:
    """What a run would read of a folder, by its list if it has one."""
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        return DATASETS.build(dict(dataset, data_root=data, pipeline=[]))


def pixels_of(model: dict, supervised: bool) -> dict:
    """Channel order, mean and std of a run's model, as a peer's preprocessor takes them."""
    given = model['data_preprocessor']
    swap = 'to_rgb' if supervised else 'bgr_to_rgb'
    return {
        swap: given.get('bgr_to_rgb', False),
        'mean': given.get('mean'),
        'std': given.get('std'),
    }


def last_stage(backbone: dict) -> tuple[dict, int]:
    """A backbone that gives its last map alone, and the channels of that.

    Raises:
        ValueError: It cannot.
    """
    backbone = copy.deepcopy(backbone)
    if 'out_indices' in backbone:
        backbone['out_indices'] = tuple(backbone['out_indices'])[-1:]
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        network = MODELS.build(copy.deepcopy(backbone))
        maps = feature_maps(network, 224, backbone.get('in_channels', 3))
    if len(maps) != 1:
        raise ValueError(
            f'{type_name(backbone)} gives {len(maps)} maps, other methods take one: set '
            'model.backbone.out_indices in the MCL config'
        )
    return backbone, maps[0].shape[1]


def fit_heads(model: dict, width: int, embedding: int) -> None:
    """Make what follows the backbone fit it, in place.

    Args:
        model (dict): A peer's, for a ResNet-50.
        width (int): Channels of the backbone's last map.
        embedding (int): Channels of the run's embeddings; BYOL has as many.
    """
    parts = [model['neck'], model['head'], model['head'].get('predictor', {})]
    for part in parts:
        if 'hid_channels' in part:
            part['hid_channels'] = part['hid_channels'] * width // 2048
        if part.get('in_channels') == 2048:
            part['in_channels'] = width
    if 'predictor' in model['head']:
        model['neck']['out_channels'] = embedding
        model['head']['predictor'].update(in_channels=embedding, out_channels=embedding)


def target_momentum(settings: dict) -> float:
    """The base momentum of a run's target."""
    for hook in settings.get('custom_hooks') or []:
        if type_name(hook) == 'TargetUpdateHook':
            return hook.get('base_momentum', PUBLISHED)
    return PUBLISHED


def views_of(pipeline: list[dict], supervised: bool) -> list[dict]:
    """A pipeline of the views of an MCL run, one of either side's kind; supervised: one of the two.

    Views at native size get their colours from the model, which a peer does not have: it gets the
    published views, of the same side.
    """
    views = next((t for t in pipeline if type_name(t) == 'MultiView'), None)
    if views is None:
        published = Config.fromfile(str(RECIPES / '_base_' / 'datasets' / 'views_224.py')).to_dict()
        transform, key = next(side_settings(pipeline))
        pipeline = published['train_dataloader']['dataset']['pipeline']
        for view, name in side_settings(pipeline):
            view[name] = transform[key]
            view['crop_ratio_range'] = transform.get('crop_ratio_range', view['crop_ratio_range'])
        views = next(t for t in pipeline if type_name(t) == 'MultiView')
    if supervised:
        chosen = dict(type='RandomChoice', transforms=views['transforms'])
    else:
        chosen = dict(views, num_views=[1, 1])
    return [chosen if transform is views else transform for transform in pipeline]
