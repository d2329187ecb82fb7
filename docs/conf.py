"""The documentation site: `sphinx-build -W docs site` makes it.

The pages are those of docs/ and a few that stand elsewhere in the repository. The reference is read from the
docstrings; nothing of the package is imported.
"""

import posixpath
import re
from pathlib import Path

from astroid.manager import AstroidManager

HERE = Path(__file__).parent
ROOT = HERE.parent

project = 'mcl_mm'
html_title = 'mcl_mm'
html_theme = 'furo'
extensions = [
    'autoapi.extension',
    'myst_parser',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
]
highlight_language = 'none'
myst_heading_anchors = 4
autoapi_dirs = [str(ROOT / 'mcl_mm')]
autoapi_root = 'reference'
autoapi_ignore = ['*/.mim/*', '*/cli/*']  # recipes and scripts; texts of --help
autoapi_add_toctree_entry = False
autoapi_options = ['members', 'show-inheritance', 'show-module-summary']
autoapi_python_class_content = 'both'
suppress_warnings = ['autoapi.python_import_resolution']  # other libraries are not read


class OtherLibraries:
    """All modules but those of which classes here are made. To read the others takes longer than the rest."""

    READ = ('mcl_mm', 'builtins', 'abc', 'collections', 'dataclasses', 'enum', 'typing')

    def __contains__(self, module: str) -> bool:
        return module.partition('.')[0] not in self.READ


AstroidManager.brain['module_denylist'] = OtherLibraries()

# Pages that stand outside docs/, and their names in the site; git ignores these copies.
PAGES = {
    'README.md': 'readme',
    'CONTRIBUTING.md': 'contributing',
    'CHANGELOG.md': 'changelog',
    'configs/ablations/README.md': 'ablations',
}
# In a code block index.md would be hard to read on a code host.
NAVIGATION = {
    'Start': 'Overview <readme>, install, quickstart, commands, recipes',
    'Your own images': (
        'images, channels, small_sets, bad_data, choosing_images, initial_weights, supervised, distill'
    ),
    'Into a detector': 'adapt, doctor, detectors, transfer, protocols, formats, operators',
    'Long runs': 'monitoring, loggers, reliability, performance',
    'Clusters': 'clusters, shared_disks, scaling',
    'Method and fidelity': 'method, fidelity, backbones, ablations, peers, results',
    'Reference': 'reference/mcl_mm/index',
    'Project': 'contributing, changelog',
}
for origin, page in PAGES.items():
    (HERE / f'{page}.md').write_bytes((ROOT / origin).read_bytes())


def list_pages(tree: re.Match) -> str:
    """A plain list of the pages of a toctree."""
    return (
        ''.join(f'- :doc:`{page.rsplit("/", 2)[1]} <{page}>`\n' for page in tree[1].split()) + '\n'
    )


def prepare(app, docname: str, source: list[str]) -> None:
    """Change links between files to links between pages; give the first page the navigation.

    A link to code needs no change: MyST offers the file for download.
    """
    origin = next((path for path, page in PAGES.items() if page == docname), f'docs/{docname}')

    def replace(link: re.Match) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link[1]))
        return '](' + (f'{PAGES[path]}.md' if path in PAGES else posixpath.relpath(path, 'docs'))

    if docname.startswith(f'{autoapi_root}/mcl_mm/') and docname != f'{autoapi_root}/mcl_mm/index':
        # Reached from the page of its package; every page's navigation with all of them takes minutes.
        source[0] = ':orphan:\n\n' + source[0]
    source[0] = re.sub(
        r'^\.\. toctree::\n   :maxdepth: 1\n\n((?:   /\S+\n+)+)', list_pages, source[0], flags=re.M
    )
    if not docname.startswith(autoapi_root):
        source[0] = re.sub(r'\]\((?![a-z]+:|#)([^)#\s]+)', replace, source[0])
    if docname == 'index':
        for caption, pages in NAVIGATION.items():
            pages = pages.replace(', ', '\n')
            source[0] += f'\n```{{toctree}}\n:caption: {caption}\n:hidden:\n\n{pages}\n```\n'


def skip(app, what: str, name: str, obj, skipped: bool, options) -> bool:
    """Leave out what has no docstring, but for packages and modules: what they hold may have one."""
    return skipped and (what not in ('package', 'module') or '._' in name)


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect('source-read', prepare)
    app.connect('autoapi-skip-member', skip)
