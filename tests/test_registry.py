"""Components are found from configs without imports, in processes that have not imported mcl_mm."""

import subprocess
import sys

import pytest

NECK = 'in_channels=[8, 8, 8, 8], out_channels=8, hid_channels=8, embed_channels=8'
PROGRAMS = {
    'own default scope, no import': f"""
from mmengine.registry import MODELS, DefaultScope
with DefaultScope.overwrite_default_scope('mcl_mm'):
    model = MODELS.build(dict(type='MCLNeck', {NECK}))
""",
    'MMDetection config with custom_imports': f"""
from mmengine.config import Config
open('config.py', 'w').write('''
default_scope = 'mmdet'
custom_imports = dict(imports=['mcl_mm'])
model = dict(type='mcl_mm.MCLNeck', {NECK})
''')
cfg = Config.fromfile('config.py')
from mmengine.registry import init_default_scope
init_default_scope(cfg.default_scope)
from mmdet.registry import MODELS
model = MODELS.build(cfg.model)
""",
    'MMPretrain config with custom_imports': f"""
from mmengine.config import Config
open('config.py', 'w').write('''
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mcl_mm'])
model = dict(type='mcl_mm.MCLNeck', {NECK})
''')
cfg = Config.fromfile('config.py')
from mmengine.registry import init_default_scope
init_default_scope(cfg.default_scope)
from mmpretrain.registry import MODELS
model = MODELS.build(cfg.model)
""",
}


@pytest.mark.parametrize('program', PROGRAMS.values(), ids=PROGRAMS)
def test_components_are_found(program, tmp_path):
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program + '\nprint(type(model))'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "<class 'mcl_mm.models.mcl_neck.MCLNeck'>" in process.stdout, process.stderr


def test_registries_are_children_with_locations():
    from mmengine import registry as root

    from mcl_mm import registry

    for name in ('DATASETS', 'TRANSFORMS', 'FUNCTIONS', 'MODELS', 'HOOKS'):
        child = getattr(registry, name)
        assert child.scope == 'mcl_mm'
        assert child.parent is getattr(root, name)
        assert child._locations
