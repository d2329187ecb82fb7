"""The option that changes settings of a config, as several commands have it."""

import argparse
import ast
import contextlib
import re
from collections.abc import Sequence
from typing import Any, Union

NUMBER = re.compile(r'[+-]?(0|[1-9]\d*)')  # 01 and 2023_05 are names
CONSTANTS = {'true': True, 'false': False}
PAIRS = {'(': ')', '[': ']', '{': '}'}


def add_settings(parser: argparse.ArgumentParser, option: str = '--cfg-options') -> None:
    """Add it.

    Args:
        parser (argparse.ArgumentParser): Of the command.
        option (str): Its name. Defaults to ``'--cfg-options'``.
    """
    parser.add_argument(
        option,
        nargs='+',
        action=Settings,
        metavar='KEY=VALUE',
        help='settings of the config to override; lists as KEY="[a,b]", and a text that looks like a number '
        """as KEY="'2023'\"""",
    )


class Settings(argparse.Action):
    """Makes a dict of ``KEY=VALUE``, as MMEngine's ``DictAction`` does, and keeps texts as they are."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Union[str, Sequence[Any], None],
        option_string: Union[str, None] = None,
    ) -> None:
        """Add what was given to what an earlier option has.

        Raises:
            ValueError: There is no ``=``, or the value cannot be read.
        """
        found = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, sign, value = text.partition('=')
            if not sign:
                raise ValueError(f'{text!r} has no =')
            found[key] = parse_value(value)
        setattr(namespace, self.dest, found)


def parse_value(text: str) -> Any:
    """What a value of the command line means.

    Numbers, ``true``, ``false`` and ``None`` are themselves. ``[...]``, ``(...)`` and values with a comma
    between them are lists or tuples, nested or not. Anything in quotes, and all else, is a text as it stands.

    Args:
        text (str): Behind the first ``=``.

    Raises:
        ValueError: Brackets or quotes do not match.
    """
    text = text.strip()
    with contextlib.suppress(ValueError, SyntaxError):
        if text[:1] in (*PAIRS, '"', "'"):
            value = ast.literal_eval(text)
            return value if text[0] != '(' or isinstance(value, tuple) else (value,)
    if text[:1] not in ('(', '[') and ',' not in text:
        return parse_word(text)
    parts = split_at_commas(text)
    if text[:1] in ('(', '[') and len(parts) == 1:
        inside = [parse_value(part) for part in split_at_commas(text[1:-1]) if part.strip()]
        return tuple(inside) if text[0] == '(' else inside
    return [parse_value(part) for part in parts if part.strip()]


def parse_word(text: str) -> Any:
    """A number, a constant, or the text itself."""
    if text == 'None':  # 'none' is the name of a way of routing
        return None
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    if NUMBER.fullmatch(text):
        return int(text)
    leading_zero = re.match(r'[+-]?0\d', text)
    with contextlib.suppress(ValueError):
        if '_' not in text and not leading_zero:
            return float(text)
    return text


def split_at_commas(text: str) -> list[str]:
    """The parts of a text between commas outside of brackets and quotes.

    Raises:
        ValueError: A bracket or quote that opens does not close, or the other way round.
    """
    parts, open_brackets, quote = [''], [], ''
    for letter in text:
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '"\'' and not parts[-1].strip():  # an apostrophe inside of a word is none
            quote = letter
        elif letter in PAIRS:
            open_brackets.append(PAIRS[letter])
        elif letter in PAIRS.values() and (not open_brackets or open_brackets.pop() != letter):
            raise ValueError(f'{letter!r} closes nothing; put a text with brackets into quotes')
        if letter == ',' and not open_brackets and not quote:
            parts.append('')
        else:
            parts[-1] += letter
    if open_brackets or quote:
        raise ValueError(
            f'{(quote or open_brackets[-1])!r} is missing; put a text with brackets into quotes'
        )
    return parts
