"""Importing mcl_mm beside missing, old or quarrelling libraries: one sentence that says what to do."""

from types import SimpleNamespace

import pytest

from mcl_mm._requirements import REQUIREMENTS, check_requirements


def importer(**replaced):
    """An import function: versions as required, but for ``replaced``: a version or an error."""

    def import_module(name):
        found = replaced.get(name, REQUIREMENTS[name][0])
        if isinstance(found, BaseException):
            raise found
        return SimpleNamespace(__version__=found)

    return import_module


def test_required_versions_pass():
    check_requirements(importer())
    check_requirements(importer(torch='2.11.0+cu130', mmdet='3.5.1', mmcv='2.3.6'))


@pytest.mark.parametrize('name', list(REQUIREMENTS))
@pytest.mark.parametrize(
    ('found', 'message'),
    [
        ('0.1', r'mcl_mm needs {name}>=[\d.]+, found 0\.1: install it with: pip install -U .+'),
        (
            ModuleNotFoundError(name='{name}'),
            r'mcl_mm needs {name}>=.+, not found: install it with',
        ),
        (ModuleNotFoundError('x', name='x'), r"mcl_mm needs {name}, which cannot find 'x'"),
        (
            AssertionError('MMCV==9 is used'),
            r'{name}, whose import fails \(MMCV==9 is used\): inst',
        ),
        (
            ImportError('libGL.so.1'),
            r'{name}, whose import fails \(libGL\.so\.1\): install it with',
        ),
    ],
)
def test_each_failure_is_one_sentence_with_a_remedy(name, found, message):
    if isinstance(found, ModuleNotFoundError) and found.name == '{name}':
        found = ModuleNotFoundError(name=name)
    with pytest.raises(ImportError, match=message.format(name=name)) as error:
        check_requirements(importer(**{name: found}))
    assert '\n' not in str(error.value)
    assert error.value.__class__ is ImportError
