"""Names are changed by the first rule that fits."""

import pytest
import torch

from mcl_mm.transfer.formats.rename import rename


def test_first_rule_counts_and_reasons_come_first():
    weights = {'a.1': torch.ones(1), 'b.1': torch.ones(2)}
    renamed = rename(weights, 'X', [(r'a\.(\d)', r'x.\1'), (r'.+', 'y')], [(r'b\..+', 'no use')])
    assert list(renamed.state_dict) == ['x.1']
    assert renamed.left == {'b.1': 'no use'}
    with pytest.raises(ValueError, match='X has no place for b.1'):
        rename(weights, 'X', [(r'a\.(\d)', r'x.\1')])
