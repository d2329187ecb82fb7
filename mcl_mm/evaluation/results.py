"""A page of tables and plots, drawn from ledgers of finished runs."""

import re
from collections import Counter
from pathlib import Path

from mcl_mm.files import write_text

from .ledger import read_ledger
from .result_plots import draw
from .result_tables import group, table

BEGIN, END = '<!-- drawn from the ledger: begin -->', '<!-- drawn from the ledger: end -->'
NEW_PAGE = f'# Results\n\n{BEGIN}\n{END}\n'


def sections(entries: list[dict], pictures: Path) -> str:
    """All tables in Markdown; plots lie in a folder beside the page.

    Args:
        entries (list[dict]): Of all ledgers.
        pictures (Path): The folder.
    """
    parts, names = [], Counter()
    for one in group(entries):
        runs = [run for row in one.rows for run in row.runs]
        parts.append(
            f'### {one.detector}, on {one.val["name"]} ({one.val["images"]:,} images)\n\n{table(one)}'
        )
        name = f'{one.detector}_{one.val["name"]}'.replace('/', '_')
        names[name] += 1
        again = f'_{names[name]}' if names[name] > 1 else ''
        picture = pictures / f'{name}{again}.png'
        if draw(one, picture):
            parts.append(f'![The table above as a plot]({pictures.name}/{picture.name})')
        devices = sorted({run['device'] for run in runs})
        commands = sorted({run['command'] for run in runs})
        lines = ''.join(f'    {command}\n' for command in commands)
        parts.append(f'Measured on: {"; ".join(devices)}. Commands:\n\n{lines}'.rstrip())
    return '\n\n'.join(parts) or 'No run has finished yet.'


def write_results(ledgers: list[Path], out: Path) -> int:
    """Draw a page, or the marked part of one that is there; the rest of its text stays.

    Args:
        ledgers (list[Path]): Of which every run counts once.
        out (Path): The page; plots come into a folder of its name beside it.

    Returns:
        int: Finished fine-tunings.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: A file is no ledger, or the page has no marked part.
    """
    entries = {}
    for path in ledgers:
        if not path.exists():
            raise FileNotFoundError(f'no ledger at {path}')
        entries.update({entry['identity']: entry for entry in read_ledger(path)})
    page = out.read_text(encoding='utf-8') if out.exists() else NEW_PAGE
    marked = re.compile(f'{re.escape(BEGIN)}.*{re.escape(END)}', re.DOTALL)
    if len(marked.findall(page)) != 1:
        raise ValueError(f'{out} has no place for results: add the lines {BEGIN} and {END}')
    found = list(entries.values())
    drawn = f'{BEGIN}\n\n{sections(found, out.with_suffix(""))}\n\n{END}'
    write_text(out, marked.sub(lambda _: drawn, page))
    return sum(entry['kind'] == 'finetune' for entry in found)
