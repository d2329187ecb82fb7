"""What the package tells a user to type can be typed: every command, option, script and hook it names.

Looks through the string literals of the sources, so that a new line of advice is tried as well.
``tests/transfer/detector/rules/test_rules.py`` tries the lines for configs.
"""

import ast
import contextlib
import functools
import inspect
import io
import re
import shlex

import pytest
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, LOOPS, OPTIM_WRAPPERS, RUNNERS

import mcl_mm.datasets
import mcl_mm.engine  # noqa: F401  (registers)
from conftest import ROOT
from mcl_mm.cli import COMMANDS, command_parser
from mcl_mm.registry import DATA_SAMPLERS, DATASETS, MODELS, TRANSFORMS

# In the place of a value that is not known before it runs.
VALUE = '7'
# At the beginning of a line, in backticks or after a colon: to be typed. Elsewhere: a mention.
COMMAND = re.compile(r'(^ *|`|: )?mcl-mm +([a-z][a-z-]*)([^`\n]*)', re.M)


def literals() -> list[tuple[str, str]]:
    """File and text of every string literal of the package, values of f-strings replaced."""
    found = []
    for path in sorted((ROOT / 'mcl_mm').rglob('*.py')):
        inside = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                inside.update(map(id, node.values))
                text = ''.join(
                    p.value if isinstance(p, ast.Constant) else VALUE for p in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = '' if id(node) in inside else node.value
            else:
                continue
            found.append((path.relative_to(ROOT).as_posix(), text))
    return [(path, text) for path, text in found if text]


LITERALS = literals()


def commands() -> list[tuple[str, str, str]]:
    """File, command and arguments wherever a string names ``mcl-mm COMMAND``."""
    found = []
    for path, text in LITERALS:
        for match in COMMAND.finditer(re.sub(r' *\\\n *', ' ', text)):
            typed, name, rest = match.groups()
            rest = rest if typed is not None else ''
            rest = re.split(r'  +(?![-\[])|\s#|[;,.](?=\s|$)', rest)[0]
            found.append((path, name, rest))
    return found


def options() -> set[str]:
    """All options of all commands."""
    return {
        option
        for name in COMMANDS
        for action in command_parser(name)._actions
        for option in action.option_strings
    }


def arguments(rest: str) -> list[str]:
    """What a shell makes of it, with optional parts taken and numbers for their placeholders."""
    rest = rest.replace('...', '').replace('"', '')
    rest = re.sub(r'(?<=\s)\[|\](?=\s|$)|(?<=[A-Z])\]', '', rest)
    rest = re.split(r'\s[>|]\s|\)(?=\s|$)', rest)[0]
    return [VALUE if word == 'N' else word for word in shlex.split(rest.replace("'", ' '))]


def parses(name: str, words: list[str]) -> str:
    """What the command's own parser says against the arguments; empty if nothing."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            command_parser(name).parse_args(words)
        except SystemExit:
            return said.getvalue().splitlines()[-1]
    return ''


def test_every_command_that_is_named_parses():
    """A name alone is a mention; with arguments it has to be complete."""
    found = commands()
    assert len(found) > 40
    assert {name for _, name, _ in found} <= set(COMMANDS)
    wrong = [
        (path, name, rest, said)
        for path, name, rest in found
        if arguments(rest) and re.match(r' +[\w<\[{/.-]', rest)
        if (said := parses(name, arguments(rest)))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    'line', ['export a.pth', 'train my.py --go-on', 'doctor a b c', 'adapt --x']
)
def test_what_does_not_parse_is_seen(line):
    name, *words = line.split()
    assert parses(name, words)


def test_every_option_that_is_named_is_there():
    known = options() | {'--help', '--print-completion', '--standalone'}  # the last is torchrun's
    scripts = ''.join(path.read_text() for path in (ROOT / 'tools').glob('*.sh'))
    quickstart = (ROOT / 'mcl_mm/quickstart/scenes.py').read_text()
    missing = {
        (path, option)
        for path, text in LITERALS
        for option in re.findall(r'(?<![\w-])--[a-z][\w-]+', text)
        if option not in known and f"'{option}'" not in quickstart and option not in scripts
    }
    assert missing == set()


def test_scripts_that_are_named_are_there_and_have_no_command():
    """Scripts that are a command go by the command's name since 0.2."""
    named = {
        (path, script)
        for path, text in LITERALS
        if not path.endswith('operators/repair.py')  # names one of MMDetection's
        for script in re.findall(r'tools/[\w.]+\w', text)
    }
    assert named
    for path, script in named:
        assert (ROOT / script).is_file(), (path, script)
        assert script.endswith('.sh'), (path, script)


def test_types_that_are_named_are_registered():
    kinds = {
        (path, kind)
        for path, text in LITERALS
        for kind in re.findall(r"type='mcl_mm\.(\w+)'", text)
    }
    assert kinds
    registries = (HOOKS, LOOPS, DATA_SAMPLERS, MODELS, TRANSFORMS)
    for path, kind in kinds:
        assert any(registry.get(f'mcl_mm.{kind}') for registry in registries), (path, kind)


# Between them they have every part that a config of this project can have.
CONFIGS = (
    'mcl_r50_100e',
    'mcl_r50_small_supervised',
    'distill/mcl_r50_dinov2',
    'peers/byol_r50_100e',
    'quickstart/pretrain',
    'transfer/mask-rcnn_r50_fpn_mcl_1x_coco',
    'transfer/pascal_voc_R_50_C4_24k_moco',
)
SETTING = re.compile(
    r'(?<![\w.])((?:model|(?:train|val)_dataloader|optim_wrapper|train_cfg|default_hooks)(?:\.\w+)+)(?![\w(])'
)
OF_THE_PAST = {'model.routed'}  # named where an old config still has it
READ_BEFORE = {
    'constructor',
    'paramwise_cfg',
}  # by MMEngine, which builds the optim_wrapper without them


@functools.cache
def shipped(name: str) -> dict:
    """One of the project's configs."""
    return Config.fromfile(ROOT / f'configs/{name}.py').to_dict()


def takes(node: object, path: list[str]) -> bool:
    """Whether a config has a setting, or the class at its place has an argument of the name."""
    if not path:
        return True
    key, *rest = path
    if not isinstance(node, dict):
        return isinstance(node, (list, tuple))
    if key == '0':  # MMDetection takes a list of necks, too
        return takes(node, rest)
    if VALUE in key:  # any name that fits
        fits = [name for name in node if re.fullmatch(key.replace(VALUE, r'\w*'), name)]
        return any(takes(node[name], rest) for name in fits)
    if key in node:
        return takes(node[key], rest)
    kind = str(node.get('type', 'Runner'))
    registries = (
        MODELS,
        DATA_SAMPLERS,
        TRANSFORMS,
        HOOKS,
        LOOPS,
        OPTIM_WRAPPERS,
        RUNNERS,
        DATASETS,
    )
    classes = [registry.get(kind) for registry in registries]
    return (key in READ_BEFORE and 'OptimWrapper' in kind) or any(
        key in inspect.signature(base).parameters
        for found in filter(inspect.isclass, classes)
        for base in found.__mro__[:-1]
    )


def test_settings_that_are_named_are_there():
    named = {
        (path, setting)
        for path, text in LITERALS
        for setting in SETTING.findall(text)
        if not hasattr(BaseModel, setting.split('.')[1]) and setting not in OF_THE_PAST
    }
    assert len(named) > 40
    missing = {
        (path, setting)
        for path, setting in named
        if not any(takes(shipped(name), setting.split('.')) for name in CONFIGS)
    }
    assert missing == set()


@pytest.mark.parametrize(
    ('setting', 'there'),
    [
        ('model.head.temperature', True),
        ('model.backbone.frozen_stages', True),
        ('model.backbone.frozen_stage', False),
        ('train_dataloader.num_worker', False),
        ('train_dataloader.dataset.value_range', True),
        ('optim_wrapper.clip_gradient', False),
    ],
)
def test_a_setting_that_is_not_there_is_seen(setting, there):
    assert any(takes(shipped(name), setting.split('.')) for name in CONFIGS) == there
