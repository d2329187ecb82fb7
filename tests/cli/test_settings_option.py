"""Settings on the command line: what MMEngine makes of them, and texts that it would change."""

import argparse

import pytest
from mmengine.config import DictAction

from mcl_mm.cli.settings import add_settings, parse_value


@pytest.mark.parametrize(
    'text',
    ['1', '-3', '1e-3', '5.', 'true', 'False', 'None', 'none', 'all', 'a,b', '1,2', 'a,', '[]', '[a,b]',
     '(1,1,2)', '(1)', '[(1,2),[a,b],c]', '[1e-3,a]', '[true,None]', '/d/list.txt', 'a=b', ''],
)  # fmt: skip
def test_values_are_those_of_mmengine(text):
    parser = argparse.ArgumentParser()
    parser.add_argument('--theirs', nargs='+', action=DictAction)
    add_settings(parser, '--ours')
    found = parser.parse_args(['--theirs', f'x.y={text}', '--ours', f'x.y={text}'])
    assert found.ours == found.theirs
    assert type(found.ours['x.y']) is type(found.theirs['x.y'])


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/d/my images/l.txt', '/d/my images/l.txt'),
        ('[my images, b]', ['my images', 'b']),
        ("'2023'", '2023'),
        ("['2023', '01']", ['2023', '01']),
        ('[2023,01]', [2023, '01']),
        ('2023_05', '2023_05'),
        ("'a,b'", 'a,b'),
        ('/d/a(b', '/d/a(b'),
        ("O'Brien", "O'Brien"),
        ("[O'Brien,b]", ["O'Brien", 'b']),
        ("{'a': 1}", {'a': 1}),
    ],
)
def test_texts_stay_what_they_are(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize('text', ['[a,b', '(1,2', '/d/a(,b', 'a,b]', "['a,b]"])
def test_brackets_that_do_not_match_are_refused(text):
    with pytest.raises(ValueError, match='put a text with brackets into quotes'):
        parse_value(text)


def test_an_option_given_twice_adds(tmp_path):
    parser = argparse.ArgumentParser()
    add_settings(parser)
    found = parser.parse_args(['--cfg-options', 'a=1', 'b=2', '--cfg-options', 'b=3'])
    assert found.cfg_options == dict(a=1, b=3)
