"""docs/scaling.md shows what the recipe, the published rates and the assumptions give."""

import re

import pytest
import scaling_table

from conftest import ROOT

PAGE = (ROOT / 'docs/scaling.md').read_text()


@pytest.mark.parametrize('make', scaling_table.TABLES, ids=lambda make: make.__name__)
def test_page_shows_the_table(make):
    assert make() in PAGE


def test_page_shows_the_sentences():
    text = re.sub(r'\s+', ' ', PAGE)
    for sentence in scaling_table.sentences():
        assert sentence in text


def test_all_tables_are_computed():
    """Every row of numbers comes from a function."""
    computed = '\n'.join(make() for make in scaling_table.TABLES).splitlines()
    shown = [line for line in PAGE.splitlines() if re.match(r'\|.*\d.*\|', line)]
    assert set(shown) <= set(computed)


@pytest.mark.parametrize(
    ('joint', 'expected'), [('all', 147.0), ('backbone', 48.8), ('none', 46.0)]
)
def test_multiply_adds_an_image(joint, expected):
    """At 128 images as at the 32 of the other pages."""
    c = scaling_table.counts(joint)
    assert c.flops / 2e9 / c.batch == pytest.approx(expected, rel=0.002)


def test_one_machine_waits_for_no_other():
    """The groups of a machine cost the same with any number of machines, and all of them at 8."""
    c = scaling_table.counts('backbone')
    parts = [scaling_table.seconds(c, n, 12.5e9, 6e13) for n in scaling_table.GPUS]
    assert len({part['machine'] for part in parts}) == 1
    assert parts[0]['machine'] == parts[0]['everywhere']
    waits = [part['everywhere'] for part in parts]
    assert waits == sorted(waits)


def test_the_goal_on_paper():
    """A100, joint backbone, batch norm within machines: 0.9 up to 128 GPUs, 0.85 at 512, either link."""
    c, rate = scaling_table.counts('backbone'), scaling_table.sustained()['A100 80 GB'][1]
    for n, least in zip(scaling_table.GPUS, (0.9, 0.9, 0.9, 0.85)):
        for link in scaling_table.LINKS:
            parts = scaling_table.seconds(c, n, link, rate)
            assert scaling_table.efficiency(parts, 'machine') >= least
