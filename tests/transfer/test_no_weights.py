"""Files that hold no weights that could be loaded are refused in a sentence that says what to do."""

import re

import numpy as np
import pytest
import torch

from mcl_mm.transfer import read_checkpoint

WEIGHTS = {'conv.weight': torch.ones(2, 3, 3, 3), 'conv.bias': torch.zeros(2)}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is empty: copy or download it again'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'run `git lfs pull`'),
        (b'\n <!DOCTYPE html><html>', 'is a web page: download'),
        (b'{"metadata": {"total_size": 3}, "weight_map": {}}', 'spread over several files'),
        (b'{}', 'is a text file, not weights'),
        ('é'.encode() * 256 + b'x', 'is a text file, not weights'),  # cut amid a letter
        (b'\x89PNG\r\n\x1a\n', 'is not a plain file of weights'),
    ],
)
@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors'])
def test_what_is_no_file_of_weights(tmp_path, content, message, name):
    if name == 'a.safetensors' and content[:1] == b'\x89':
        message = 'is named as safetensors but is something else'
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / name)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(IsADirectoryError, match='is a folder: give the file of weights in it'):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ('content', 'keys'),
    [
        (dict(teacher=WEIGHTS, student=WEIGHTS, epoch=3), "['teacher']"),
        (dict(ema=WEIGHTS, optimizer=dict(state={0: WEIGHTS})), "['ema']"),
        (dict(model=dict(state_dict=WEIGHTS)), "['model']['state_dict']"),
        (dict(state_dict=dict(model=WEIGHTS, lr=[3])), "['state_dict']['model']"),
    ],
)
def test_the_line_that_takes_weights_out_works(tmp_path, monkeypatch, content, keys):
    monkeypatch.chdir(tmp_path)
    torch.save(content, 'a.pth')
    with pytest.raises(ValueError, match='holds no state_dict') as error:
        read_checkpoint('a.pth')
    line = re.search(r'in Python: (torch\.save\(.*?\)\S*, \S+\))', str(error.value))[1]
    assert keys in line
    exec(line, dict(torch=torch))
    read = read_checkpoint('weights.pth')['state_dict']
    assert read.keys() == WEIGHTS.keys()
    assert all(torch.equal(read[name], value) for name, value in WEIGHTS.items())


def test_another_copy_of_the_weights_is_named(tmp_path):
    torch.save(dict(teacher=WEIGHTS, student=WEIGHTS), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r"\(or \['student'\]\)$"):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('nested', [False, True])
def test_arrays_are_named_and_few_of_many_names(tmp_path, nested):
    arrays = {f'layer{n}': np.ones(3, np.float32) for n in range(100)}
    torch.save(dict(state_dict=arrays) if nested else arrays, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'torch\.from_numpy') as error:
        read_checkpoint(tmp_path / 'a.pth')
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (torch.ones(2, device='meta'), 'names and shapes without values, first conv.weight'),
        (torch.tensor([1.0, float('nan')]), 'not finite numbers, first conv.weight'),
        (torch.tensor([1.0, -float('inf')]).half(), 'not finite numbers, first conv.weight'),
        (torch.ones(2, 3).to_sparse(), 'sparse weights, first conv.weight'),
        (torch.ones(2, 3, dtype=torch.int8), 'quantised weights, first conv.weight'),
        (torch.ones(2, 3).to(torch.float8_e4m3fn), 'quantised weights, first conv.weight'),
        (torch.tensor([1j, float('nan')]), 'not finite numbers, first conv.weight'),
    ],
)
def test_values_that_would_spoil_a_model(tmp_path, value, message):
    torch.save(dict(state_dict={**WEIGHTS, 'conv.weight': value}), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / 'a.pth')


def test_a_mask_of_attention_may_hide_by_infinity(tmp_path):
    mask = torch.full((4, 4), -float('inf')).triu(1)
    torch.save({**WEIGHTS, 'text.attn_mask': mask}, tmp_path / 'a.pth')
    assert torch.equal(read_checkpoint(tmp_path / 'a.pth')['state_dict']['text.attn_mask'], mask)
    torch.save({**WEIGHTS, 'text.attn_mask': mask + float('inf')}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='not finite numbers, first text.attn_mask'):
        read_checkpoint(tmp_path / 'a.pth')


def test_numbers_that_are_no_weights_may_be_whole(tmp_path):
    whole = {'table_index': torch.arange(4), 'bn.num_batches_tracked': torch.tensor(3)}
    torch.save({**WEIGHTS, **whole}, tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth')['state_dict'].keys() == {*WEIGHTS, *whole}
