"""The registries of ``mcl_mm``: children of MMEngine's, under the scope ``mcl_mm``.

``locations`` name the modules a registry imports on its first look-up, so a config needs either
``default_scope = 'mcl_mm'`` and nothing else, or, inside an MMDetection or MMPretrain config,
``custom_imports = dict(imports=['mcl_mm'])`` and types written as ``'mcl_mm.MCL'``. A kind of
component that this project has none of gets a registry too, or MMEngine would warn about each.
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry


def child(parent: str, *locations: str) -> Registry:
    """A child, scope ``mcl_mm``, of the MMEngine registry called ``parent``."""
    root = getattr(mmengine_registry, parent)
    return Registry(root.name, parent=root, scope='mcl_mm', locations=list(locations))


DATASETS = child('DATASETS', 'mcl_mm.datasets')
TRANSFORMS = child('TRANSFORMS', 'mcl_mm.datasets', 'mcl_mm.models')
FUNCTIONS = child('FUNCTIONS', 'mcl_mm.datasets')
MODELS = child('MODELS', 'mcl_mm.models')
HOOKS = child('HOOKS', 'mcl_mm.engine', 'mcl_mm.evaluation')
LOG_PROCESSORS = child('LOG_PROCESSORS', 'mcl_mm.engine')
LOOPS = child('LOOPS', 'mcl_mm.engine')
DATA_SAMPLERS = child('DATA_SAMPLERS', 'mcl_mm.datasets')
OPTIMIZERS = child('OPTIMIZERS', 'mcl_mm.engine')

EVALUATOR = child('EVALUATOR')
METRICS = child('METRICS')
MODEL_WRAPPERS = child('MODEL_WRAPPERS')
OPTIM_WRAPPERS = child('OPTIM_WRAPPERS')
OPTIM_WRAPPER_CONSTRUCTORS = child('OPTIM_WRAPPER_CONSTRUCTORS')
PARAM_SCHEDULERS = child('PARAM_SCHEDULERS')
RUNNERS = child('RUNNERS')
TASK_UTILS = child('TASK_UTILS')
VISBACKENDS = child('VISBACKENDS')
VISUALIZERS = child('VISUALIZERS')
WEIGHT_INITIALIZERS = child('WEIGHT_INITIALIZERS')
