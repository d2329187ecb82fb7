"""The quickstart's result as one HTML file that can be sent around."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple, Optional

from mcl_mm.files import write_text

STYLE = """
body { font-family: system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em } img { max-width: 100% }
td, th { padding: .3em 1.2em .3em 0; border-bottom: 1px solid #ddd; text-align: left }
code, pre { background: #f4f4f4; padding: .1em .3em } pre { padding: 1em; overflow-x: auto }
"""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        title (str): Its heading.
        text (str): One paragraph.
        picture (Path, optional): A PNG file, which becomes part of the page.
        rows (Sequence[Sequence[str]]): A table; its first row is the head.
        code (str): Lines to copy.
    """

    title: str
    text: str
    picture: Optional[Path] = None
    rows: Sequence[Sequence[str]] = ()
    code: str = ''


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page. It needs no other file."""
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f'<title>{escape(title)}</title><style>{STYLE}</style></head><body>',
        f'<h1>{escape(title)}</h1>',
        *(draw_section(section) for section in sections),
        '</body></html>\n',
    ]
    write_text(path, '\n'.join(parts))


def draw_section(section: Section) -> str:
    """One section as HTML."""
    parts = [f'<h2>{escape(section.title)}</h2>', f'<p>{escape(section.text)}</p>']
    if section.rows:
        head, *body = section.rows
        lines = [''.join(f'<th>{escape(cell)}</th>' for cell in head)]
        lines += [''.join(f'<td>{escape(cell)}</td>' for cell in row) for row in body]
        parts.append('<table>' + ''.join(f'<tr>{line}</tr>' for line in lines) + '</table>')
    if section.picture:
        data = base64.b64encode(section.picture.read_bytes()).decode()
        parts.append(f'<img src="data:image/png;base64,{data}" alt="{escape(section.title)}">')
    if section.code:
        parts.append(f'<pre>{escape(section.code)}</pre>')
    return '\n'.join(parts)
