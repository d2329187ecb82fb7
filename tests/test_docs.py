"""The pages say what is there: their links, commands and paths; the site builds without a warning."""

import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mcl_mm import __version__
from mcl_mm.cli import COMMANDS
from tiny_detectors import follow

ROOT = Path(__file__).parents[1]
COPIES = re.findall(r'^/docs/(\w+)\.md$', (ROOT / '.gitignore').read_text(), re.M)
PAGES = [
    *(f'{name}.md' for name in ('README', 'CONTRIBUTING', 'CHANGELOG')),
    *sorted(f'docs/{p.name}' for p in (ROOT / 'docs').glob('*.md') if p.stem not in COPIES),
    *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / 'configs').rglob('README.md')),
]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding='utf-8')


def anchors(page: str) -> set[str]:
    """Anchors that code hosts give the headings of a page."""
    text = re.sub(r'^```.*?^```', '', read(page), flags=re.M | re.S)
    titles = re.findall(r'^#+ (.+)$', text, re.M)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def test_anchors_are_those_of_code_hosts(tmp_path, monkeypatch):
    (tmp_path / 'page.md').write_text('# What *is* `it_s`, and why?\n```\n# no heading\n```\n')
    monkeypatch.setattr(sys.modules[__name__], 'ROOT', tmp_path)
    assert anchors('page.md') == {'what-is-it_s-and-why'}


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', read(page)):
        if re.match(r'[a-z]+:', target):
            continue
        path, _, anchor = target.partition('#')
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        assert (ROOT / path).exists(), f'{page}: {target}'
        assert path not in (f'docs/{copy}.md' for copy in COPIES), f'{page}: {target} is a copy'
        assert not anchor or anchor in anchors(path), f'{page}: {target}'


@pytest.mark.parametrize('page', PAGES)
def test_files_named_in_pages_exist(page):
    """Paths with a folder of the repository in front; the braces of a shell give several."""
    path = (
        r'(?<![\w/.-])(?:configs|docs|mcl_mm|tests|tools)/[\w./{},-]*[\w}]\.(?:py|sh|md|txt|json)\b'
    )
    text = read(page)
    for old in re.findall(r'^.*(?:MMDetection\'s$|in place of the old).*$', text, re.M):
        text = text.replace(old, '')  # a file of MMDetection's repository
    for name in re.findall(path, text):
        head, braces, tail = re.fullmatch(r'([^{]*)(?:\{(.*)\})?(.*)', name).groups()
        for middle in (braces or '').split(','):
            if not re.search('NAME|CONFIG', name):
                assert (ROOT / f'{head}{middle}{tail}').exists(), f'{page}: {name}'


def test_tests_named_in_code_exist():
    for folder in ('mcl_mm', 'configs', 'tools', 'tests'):
        for path in (ROOT / folder).rglob('*.py'):
            for name in re.findall(r'(?<![\w/])tests/[\w/]+\w\.py', path.read_text()):
                assert (ROOT / name).exists(), f'{path}: {name}'


@pytest.mark.parametrize('page', PAGES)
def test_commands_named_in_pages_exist(page):
    """And where a recipe follows ``train``, it is one."""
    for command, argument in re.findall(r'mcl-mm ([a-z][a-z-]*)(?: ([\w/.-]+))?', read(page)):
        assert command in COMMANDS, f'{page}: mcl-mm {command}'
        if command == 'train' and re.match(r'mcl_|\w+/mcl_', argument):
            assert (ROOT / f'configs/{argument}.py').exists(), f'{page}: {argument}'


def test_table_of_commands_is_that_of_help():
    rows = re.findall(r'^\| `([\w-]+)` \| (.+?) \|', read('docs/commands.md'), re.M)
    assert dict(rows) == COMMANDS


def test_citation_has_the_version():
    assert f'version: {__version__}\n' in read('CITATION.cff')
    assert f'\n## {__version__}\n' in read('CHANGELOG.md')


@pytest.mark.parametrize('recipe', ['mcl_r50_100e', 'mcl_r50_100e_fast', 'mcl_r50_small'])
def test_lines_of_mixed_precision_go_with_recipes(recipe):
    """Only float16 scales the loss, whatever the recipe has."""
    lines = re.findall(r'^    (optim_wrapper = .*?)(?: +#.*)?$', read('docs/performance.md'), re.M)
    wrappers = [
        follow(Config.fromfile(ROOT / f'configs/{recipe}.py'), line).optim_wrapper for line in lines
    ]
    assert {w.dtype: w.loss_scale for w in wrappers} == dict(
        bfloat16=dict(enabled=False), float16='dynamic'
    )


def test_site_builds_without_a_warning(tmp_path):
    """From a fresh copy: nothing that lies in docs/ by chance helps."""
    for path in ROOT.iterdir():
        if path.name not in ('docs', 'mcl_mm') and not path.name.startswith('.'):
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / 'mcl_mm', tmp_path / 'mcl_mm', symlinks=True)
    (tmp_path / 'docs').mkdir()
    for path in (ROOT / 'docs').iterdir():
        if path.is_file() and path.stem not in COPIES:
            (tmp_path / 'docs' / path.name).write_bytes(path.read_bytes())
    if (ROOT / 'docs/results').exists():  # plots of the ledger
        shutil.copytree(ROOT / 'docs/results', tmp_path / 'docs/results')
    site = tmp_path / 'site'
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', 'docs', str(site)]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (ROOT / 'docs').glob('*.md')} | set(COPIES)
    assert pages <= {path.stem for path in site.glob('*.html')}
    index = (site / 'index.html').read_text(encoding='utf-8')
    assert all(f'href="{page}.html"' in index for page in pages - {'index'})
    reference = (site / 'reference/mcl_mm/models/mcl/index.html').read_text(encoding='utf-8')
    assert 'id="mcl_mm.models.mcl.MCL"' in reference
    assert 'id="mcl_mm.models.mcl.MCL.loss"' in reference
