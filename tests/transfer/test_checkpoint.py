"""Files of weights: what is read from them, and that nothing in them is run."""

import http.server
import json
import os
import pickle
import threading
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file

from mcl_mm.transfer import read_checkpoint
from mcl_mm.transfer.checkpoint import cached_name
from processes import run_ranks


def test_read_checkpoint_with_and_without_prefix_and_meta(tmp_path):
    weights = {'a.weight': torch.rand(3)}
    torch.save(dict(state_dict={f'module.{k}': v for k, v in weights.items()}), tmp_path / 'a.pth')
    torch.save(weights, tmp_path / 'b.pth')
    torch.save(dict(state_dict=weights, meta=dict(epoch=3)), tmp_path / 'c.pth')
    for name, meta in (('a', {}), ('b', {}), ('c', dict(epoch=3))):
        checkpoint = read_checkpoint(tmp_path / f'{name}.pth')
        assert torch.equal(checkpoint['state_dict']['a.weight'], weights['a.weight'])
        assert checkpoint['meta'] == meta


def test_logged_scalars_and_arrays_of_a_run_are_read(tmp_path):
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    arrays = [np.arange(3, dtype=kind) for kind in ('u1', 'i4', 'u4', 'i8', 'u8', 'f4', 'f8')]
    state = dict(state_dict={}, message_hub=dict(loss=history), rng=[*arrays, np.float64(0.5)])
    torch.save(state, tmp_path / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')
    assert loaded['message_hub']['loss'].mean() == 2
    for ours, theirs in zip(arrays, loaded['rng']):
        assert ours.dtype == theirs.dtype
        assert (ours == theirs).all()


@pytest.mark.parametrize('core', [b'numpy.core.', b'numpy._core.'])
def test_arrays_of_either_numpy_are_read(tmp_path, core):
    state = dict(
        state_dict=dict(a=torch.ones(1)), meta=dict(array=np.arange(3), scalar=np.float64(0.5))
    )
    torch.save(state, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    content = (tmp_path / 'a.pth').read_bytes()
    assert b'multiarray' in content
    renamed = content.replace(b'numpy._core.', b'numpy.core.').replace(b'numpy.core.', core)
    (tmp_path / 'a.pth').write_bytes(renamed)
    meta = read_checkpoint(tmp_path / 'a.pth')['meta']
    assert meta['array'].tolist() == [0, 1, 2]
    assert meta['scalar'] == 0.5


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors'])
@pytest.mark.parametrize(
    'content', [b'', b'text', b'PK\x03\x04 cut off', b'\x05' + bytes(7) + b'{cut} off']
)
def test_file_that_is_no_checkpoint(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize('checksums', [True, False])
def test_a_flipped_bit_is_seen_by_the_checksums_of_the_file(tmp_path, checksums):
    """Files saved without checksums are read as they are: nothing tells whether they are whole."""
    path, weights = tmp_path / 'weights.pth', torch.ones(1000)
    try:
        torch.serialization.set_crc32_options(checksums)
        torch.save(dict(state_dict=dict(w=weights)), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(path)['state_dict']['w'], weights)
    content = bytearray(path.read_bytes())
    content[content.index(weights.numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)
    if checksums:
        with pytest.raises(ValueError, match='is damaged, in its part .*data/0: copy or download'):
            read_checkpoint(path)
    else:
        assert (read_checkpoint(path)['state_dict']['w'] != weights).sum() == 1
    path.write_bytes(content[:-300])
    with pytest.raises(ValueError, match='is truncated or damaged .*: copy or download it again'):
        read_checkpoint(path)


def test_truncated_safetensors(tmp_path):
    save_file({'a': torch.rand(100)}, tmp_path / 'a.safetensors')
    whole = (tmp_path / 'a.safetensors').read_bytes()
    (tmp_path / 'a.safetensors').write_bytes(whole[:-10])
    with pytest.raises(ValueError, match='cannot be read as safetensors'):
        read_checkpoint(tmp_path / 'a.safetensors')


def test_detectron2_pickle_is_refused_by_name(tmp_path):
    model = {'backbone.bottom_up.res2.0.conv1.weight': np.ones(3)}
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(dict(model=model, __author__='Detectron2')))
    with pytest.raises(ValueError, match="a bare pickle.*Detectron2's model files"):
        read_checkpoint(tmp_path / 'a.pkl')


def test_checkpoint_without_weights(tmp_path):
    torch.save(dict(state_dict=dict(a=1)), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='no state_dict'):
        read_checkpoint(tmp_path / 'a.pth')


class Net(BaseModule):
    """A layer; ``pretrained`` is a file that it starts from."""

    def __init__(self, pretrained=None):
        super().__init__(pretrained and dict(type='Pretrained', checkpoint=str(pretrained)))
        self.layer = torch.nn.Linear(2, 3)


def test_weights_called_model_are_loaded_by_mmengine_too(tmp_path):
    weights = {'layer.weight': torch.rand(3, 2), 'layer.bias': torch.rand(3)}
    torch.save(dict(model=weights, epoch=3), tmp_path / 'a.pth')
    net = Net(tmp_path / 'a.pth')
    net.init_weights()
    assert torch.equal(net.layer.weight, weights['layer.weight'])
    assert read_checkpoint(tmp_path / 'a.pth')['state_dict'].keys() == weights.keys()


@pytest.mark.parametrize('name', ['a.safetensors', 'any_name.pth'])
def test_safetensors_are_read_wherever_mmengine_reads(tmp_path, name):
    weights = {'layer.weight': torch.rand(3, 2), 'layer.bias': torch.rand(3)}
    meta = dict(epoch=4, input=dict(mean=[1.5]))
    save_file(weights, tmp_path / name, metadata=dict(format='pt', meta=json.dumps(meta)))
    assert read_checkpoint(tmp_path / name)['meta'] == meta
    loaded = Net()
    load_checkpoint(loaded, str(tmp_path / name), map_location='cpu')
    initialised = Net(tmp_path / name)
    initialised.init_weights()
    for net in (loaded, initialised):
        for key, value in net.state_dict().items():
            assert torch.equal(value, weights[key])


def test_safetensors_without_metadata(tmp_path):
    save_file({'module.a': torch.ones(2)}, tmp_path / 'a.safetensors')
    checkpoint = read_checkpoint(tmp_path / 'a.safetensors')
    assert list(checkpoint['state_dict']) == ['a']
    assert checkpoint['meta'] == {}
    assert not checkpoint['resumable']


class Evil:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_evil(path, made, zipped=True):
    """A file with weights and a pickle that would make a folder: a zip, or PyTorch's older layout."""
    weights = {'layer.weight': torch.ones(3, 2), 'layer.bias': torch.ones(3)}
    content = dict(state_dict=weights, meta=Evil(made))
    if str(path).endswith('.pkl'):
        path.write_bytes(pickle.dumps(dict(model={'a': np.ones(3)}, evil=Evil(made))))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)


READERS = {
    'read_checkpoint': read_checkpoint,
    'load_from': lambda path: load_checkpoint(Net(), str(path)),
    'init_cfg': lambda path: Net(path).init_weights(),
}


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors', 'a.pkl'])
@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, reader, name, zipped):
    write_evil(tmp_path / name, tmp_path / 'made', zipped)
    with pytest.raises(ValueError, match=name):
        READERS[reader](tmp_path / name)
    assert not (tmp_path / 'made').exists()


def test_the_refusal_names_the_code(tmp_path):
    write_evil(tmp_path / 'a.pth', tmp_path / 'made')
    with pytest.raises(ValueError, match=r'would run code from it, posix\.mkdir'):
        read_checkpoint(tmp_path / 'a.pth')


def test_the_evil_file_is_evil(tmp_path):
    """What the tests above would miss if the file did nothing."""
    write_evil(tmp_path / 'a.pth', tmp_path / 'made')
    torch.load(tmp_path / 'a.pth', weights_only=False)
    assert (tmp_path / 'made').is_dir()


def test_config_text_in_a_checkpoint_is_not_handed_to_the_runner(tmp_path):
    """MMEngine's Runner runs ``meta['config']`` as Python when it resumes."""
    torch.save(dict(state_dict={}, meta=dict(config='import os', epoch=1)), tmp_path / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')
    assert loaded['meta'] == dict(epoch=1)


class CountingHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and remembers which."""

    requested = []

    def log_message(self, *args):
        self.requested.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address of an HTTP server for ``tmp_path``; PyTorch's cache of downloads is empty."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'cache'))
    CountingHandler.requested.clear()
    handler = partial(CountingHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_address[1]}'
        httpd.shutdown()


def test_urls(tmp_path, server, monkeypatch):
    """Plain ones, and names that MMEngine's tables turn into URLs."""
    monkeypatch.setattr(
        'mmengine.runner.checkpoint.get_torchvision_models',
        lambda: dict(good=f'{server}/good.pth', evil=f'{server}/evil.pth'),
    )
    weights = {'layer.weight': torch.rand(3, 2), 'layer.bias': torch.rand(3)}
    save_file(weights, tmp_path / 'good.safetensors')
    torch.save(weights, tmp_path / 'good.pth')
    for url in (f'{server}/good.safetensors', f'{server}/good.pth', 'torchvision://good'):
        net = Net(url)
        net.init_weights()
        assert torch.equal(net.layer.weight, weights['layer.weight'])
    write_evil(tmp_path / 'evil.pth', tmp_path / 'made')
    for url in (f'{server}/evil.pth', 'torchvision://evil'):
        with pytest.raises(ValueError, match=r'run code from it, posix\.mkdir'):
            Net(url).init_weights()
    assert not (tmp_path / 'made').exists()
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def test_addresses_with_one_file_name_are_two_files(tmp_path, server, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        torch.save({name: torch.ones(1)}, tmp_path / name / 'pytorch_model.bin')
    for name in ('one', 'two'):
        assert list(read_checkpoint(f'{server}/{name}/pytorch_model.bin')['state_dict']) == [name]
    # One that PyTorch's own tools keep is found there.
    assert cached_name('https://x.org/resnet50-0676ba61.pth?a=1') == 'resnet50-0676ba61.pth'


def download(rank, url, cache):
    torch.hub.set_dir(cache)
    return CheckpointLoader.load_checkpoint(url, 'cpu')['a'].item()


def test_processes_of_a_machine_download_once(tmp_path, server, free_port):
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.pth')
    found = run_ranks(download, 2, free_port, f'{server}/a.pth', str(tmp_path / 'cache'))
    assert found == [1.0, 1.0]
    assert CountingHandler.requested == ['/a.pth']
