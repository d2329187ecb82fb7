"""Components are found from configs without imports, in processes that have not imported mcl_mm."""

import json
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


# Runs programs, each in a process forked from this one, which has imported what takes longest, but no mcl_mm.
RUN = """
import json, os, sys
import matplotlib.pyplot, mmengine.runner, scipy.optimize, torchvision
for name, program in json.loads(sys.argv[1]).items():
    if not os.fork():
        assert not {'mcl_mm', 'mmdet', 'mmpretrain'} & set(sys.modules)
        os.makedirs(name)
        os.chdir(name)
        exec(program, {})
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope='module')
def printed(tmp_path_factory):
    """What the programs print, in their order, with what they built at the end of each."""
    programs = {
        name: f'{program}\nprint({name!r}, type(model))' for name, program in PROGRAMS.items()
    }
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', RUN, json.dumps(programs)],
        cwd=tmp_path_factory.mktemp('programs'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    ).stdout


@pytest.mark.parametrize('name', PROGRAMS)
def test_components_are_found(printed, name):
    assert f"{name} <class 'mcl_mm.models.mcl_neck.MCLNeck'>\n" in printed


def test_registries_are_children_with_locations():
    from mmengine import registry as root

    from mcl_mm import registry

    for name in ('DATASETS', 'TRANSFORMS', 'FUNCTIONS', 'MODELS', 'HOOKS'):
        child = getattr(registry, name)
        assert child.scope == 'mcl_mm'
        assert child.parent is getattr(root, name)
        assert child._locations
