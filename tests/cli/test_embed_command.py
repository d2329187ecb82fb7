"""`mcl-mm embed`: what the model gives, copies, bad files, exports, lists."""

import csv
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import DefaultScope
from PIL import Image

from command_line import PRETRAIN, call, succeed
from conftest import SMALL, draw_images
from mcl_mm.evaluation.embeddings import Embedder, check_file, write_embeddings
from mcl_mm.registry import MODELS

SIDE = 64
OPTIONS = ['--side', SIDE, '--batch-size', 3, '--workers', 0, '--device', 'cpu']


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """A pre-training run of two steps, its export, and images of which two are copies and one is bad."""
    folder = tmp_path_factory.mktemp('embed')
    images = draw_images(folder / 'images', 8)
    succeed('train', PRETRAIN, '--work-dir', folder / 'run', '--cfg-options', *SMALL,
            f'train_dataloader.dataset.data_root={images}')  # fmt: skip
    succeed('export', folder / 'run/iter_2.pth', folder / 'export.pth')
    (images / 'more').mkdir()
    shutil.copy(images / '0005.jpg', images / 'more/copy, of one.jpg')
    (images / '0003.jpg').write_text('no image')
    return folder


@pytest.fixture(scope='module')
def embedded(work):
    """The files of one call."""
    succeed('embed', PRETRAIN, work / 'run/iter_2.pth', work / 'images', '--out',
            work / 'out/e.npz', '--threshold', 1, '--choose', 4, *OPTIONS)  # fmt: skip
    with np.load(work / 'out/e.npz', allow_pickle=False) as file:
        return dict(file)


def test_embeddings_are_what_the_model_gives(work, embedded):
    """By hand: resized, cropped, normalised, through the backbone one by one, averaged."""
    names = [f'000{i}.jpg' for i in (0, 1, 2, 4, 5, 6, 7)] + ['more/copy, of one.jpg']
    assert embedded['files'].tolist() == names
    cfg = Config.fromfile(PRETRAIN)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        backbone = MODELS.build(cfg.model).backbone
    backbone.eval()  # MMPretrain's backbones do not return themselves from it
    weights = torch.load(work / 'run/iter_2.pth', weights_only=False)['state_dict']
    backbone.load_state_dict(
        {k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')}
    )
    mean, std = (
        np.array(cfg.model.data_preprocessor.mean),
        np.array(cfg.model.data_preprocessor.std),
    )
    assert cfg.model.data_preprocessor.bgr_to_rgb
    for name, found in zip(names, embedded['embeddings']):
        image = Image.open(work / 'images' / name).convert('RGB')
        short = round(SIDE * 8 / 7)
        ratio = short / min(image.size)
        size = [max(short, int(side * ratio)) for side in image.size]
        image = image.resize(size, Image.BILINEAR)
        left, top = (round((s - SIDE) / 2) for s in size)
        pixels = np.asarray(image)[top : top + SIDE, left : left + SIDE]
        batch = torch.tensor((pixels - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]
        with torch.no_grad():
            wanted = F.normalize(backbone(batch)[-1].mean(dim=(2, 3)), dim=1)[0]
        assert np.allclose(found, wanted, atol=2e-5), name
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_a_copy_is_a_pair_of_similarity_1(work, embedded):
    with open(work / 'out/e.duplicates.csv', newline='') as file:
        rows = list(csv.reader(file))
    assert rows == [
        ['similarity', 'file', 'other'],
        ['1.00000', '0005.jpg', 'more/copy, of one.jpg'],
    ]


def test_chosen_images_are_a_list_without_copies(work, embedded):
    chosen = (work / 'out/e.chosen.txt').read_text().splitlines()
    assert len(set(chosen)) == 4
    assert set(chosen) < set(embedded['files'].tolist())
    assert not {'0005.jpg', 'more/copy, of one.jpg'} <= set(chosen)
    succeed('embed', PRETRAIN, work / 'run/iter_2.pth', work / 'images', '--out', work / 'again.npz',
            '--ann-file', work / 'out/e.chosen.txt', *OPTIONS)  # fmt: skip
    with np.load(work / 'again.npz') as file:
        assert file['files'].tolist() == chosen
        places = [embedded['files'].tolist().index(name) for name in chosen]
        assert np.allclose(file['embeddings'], embedded['embeddings'][places], atol=1e-5)


def test_bad_images_are_named(work, embedded, capsys):
    succeed('embed', PRETRAIN, work / 'run/iter_2.pth', work / 'images', '--out', work / 'b.npz',
            *OPTIONS)  # fmt: skip
    assert 'cannot be read and left out (1): 0003.jpg' in capsys.readouterr().out


def test_an_export_gives_the_same(work, embedded):
    succeed('embed', PRETRAIN, work / 'export.pth', work / 'images', '--out', work / 'x.npz',
            *OPTIONS)  # fmt: skip
    with np.load(work / 'x.npz') as file:
        assert np.array_equal(file['embeddings'], embedded['embeddings'])


def test_weights_that_want_other_images_are_refused(work):
    message = call('embed', PRETRAIN, work / 'export.pth', work / 'images', '--out', work / 'x.npz',
                   *OPTIONS, '--cfg-options', 'model.data_preprocessor.bgr_to_rgb=False')  # fmt: skip
    assert 'export.pth was trained on images as RGB, mean' in message
    assert 'prepares them as BGR, mean' in message


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (['--out', 'x.csv'], 'must end in .npz or .parquet'),
        (['--threshold', '2'], '--threshold is a cosine'),
        (['--choose', '0'], '--choose must be at least 1, got 0'),
        (['--choose', '99'], '--choose 99 of 9 images'),
        (['--batch-size', '0'], '--batch-size must be at least 1'),
        (['--cfg-options', 'model.backbone.depth=34'], 'missing from the file'),
    ],
)
def test_bad_input_is_one_sentence(work, tmp_path, changed, message):
    arguments = [PRETRAIN, work / 'export.pth', work / 'images', '--out', tmp_path / 'x.npz']
    assert message in call('embed', *arguments, *OPTIONS, *changed)
    assert not list(tmp_path.iterdir())


def test_a_backbone_without_maps_is_refused():
    embedder = Embedder(torch.nn.Flatten(), BaseDataPreprocessor())
    embedder.register_parameter('device', torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match='Flatten gives no maps'):
        embedder(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_parquet(tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet', reason='needs pyarrow')
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_embeddings(tmp_path / 'e.parquet', ['ä.jpg', 'b\udcff.jpg'], vectors)
    table = parquet.read_table(tmp_path / 'e.parquet').to_pydict()
    assert table == dict(file=['ä.jpg', 'b\\xff.jpg'], embedding=vectors.tolist())


def test_parquet_without_pyarrow_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(OSError, match='pip install pyarrow'):
        check_file(tmp_path / 'e.parquet')


def test_names_of_any_bytes_survive_in_npz(tmp_path):
    write_embeddings(tmp_path / 'e.npz', ['b\udcff.jpg'], np.zeros((1, 2), np.float32))
    with np.load(tmp_path / 'e.npz', allow_pickle=False) as file:
        assert file['files'].tolist() == ['b\udcff.jpg']
