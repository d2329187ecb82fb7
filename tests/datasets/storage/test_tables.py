"""Images in Arrow and Parquet files are those of the loose files, in every bit."""

import builtins
import os
import shutil
import socket

import numpy as np
import pytest
import torch

from bad_files import encoded
from conftest import draw_images
from mcl_mm.datasets import LabelledImages, UnlabelledImages
from mcl_mm.datasets.check import check, find, write_good
from mcl_mm.datasets.storage import read_bytes
from processes import CONTEXT

PIPELINE = [
    dict(type='mcl_mm.LoadAnyImage', min_side=32),
    dict(type='mcl_mm.NativeViews', side=32),
    dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
]


def test_a_table_without_the_library_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / 'a.parquet').touch()
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name == 'datasets':
            raise ModuleNotFoundError("No module named 'datasets'")
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ValueError, match=r'need the library datasets .*pip install datasets'):
        UnlabelledImages(data_root=str(tmp_path))


@pytest.fixture()
def library(tmp_path_factory, monkeypatch):
    """HuggingFace's datasets, with a cache of the test's own."""
    datasets = pytest.importorskip('datasets')
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', str(tmp_path_factory.mktemp('cache')))
    return datasets


@pytest.fixture(scope='module')
def loose(tmp_path_factory):
    return draw_images(tmp_path_factory.mktemp('loose'), 12)


@pytest.fixture(scope='module')
def records(loose):
    """What the loose files are as rows of a table."""
    paths = sorted(loose.iterdir())
    return dict(
        image=[dict(bytes=p.read_bytes(), path=p.name) for p in paths],
        label=[n % 3 for n in range(len(paths))],
        caption=[f'picture {n}' for n in range(len(paths))],
    )


def table(library, records, names=('cat', 'dog', 'newt')):
    features = library.Features(
        image=library.Image(),
        label=library.ClassLabel(names=list(names)),
        caption=library.Value('string'),
    )
    return library.Dataset.from_dict(records, features=features)


def build(folder, kind=UnlabelledImages, **kwargs):
    return kind(data_root=str(folder), pipeline=PIPELINE, **kwargs)


def check_same(loose, dataset, places=range(12)):
    original = build(loose)
    assert len(dataset) == len(places)
    for at, place in enumerate(places):
        np.random.seed(0)
        one = original[place]['inputs']
        np.random.seed(0)
        other = dataset[at]['inputs']
        assert all(torch.equal(a, b) for a, b in zip(one, other))
        assert dataset.get_data_info(at)['img_path'].endswith(f'/{at:08d}_{place:04d}.jpg')


def test_save_to_disk(library, loose, records, tmp_path):
    table(library, records).save_to_disk(str(tmp_path / 'saved'), num_shards=3)
    check_same(loose, build(tmp_path / 'saved'))
    assert build(tmp_path / 'saved').get_data_info(2)['img_path'] == (
        f'{tmp_path}/saved/rows[image]/00000002_0002.jpg'
    )


def test_rows_that_were_chosen_from_others(library, loose, records, tmp_path):
    chosen = [7, 3, 9, 9]
    table(library, records).select(chosen).save_to_disk(str(tmp_path / 'saved'))
    check_same(loose, build(tmp_path / 'saved'), chosen)


@pytest.mark.parametrize('place', ['', 'data'])
def test_parquet_files(library, loose, records, tmp_path, place):
    folder = tmp_path / 'parquet' / place
    folder.mkdir(parents=True)
    for shard in range(2):
        part = table(library, records).shard(2, shard, contiguous=True)
        part.to_parquet(str(folder / f'train-{shard:05d}-of-00002.parquet'))
    check_same(loose, build(tmp_path / 'parquet'))


@pytest.mark.parametrize('kind', ['parquet', 'arrow'])
def test_no_server_is_asked(tmp_path, library, records, monkeypatch, kind):
    """What lies on the disk is read without a network."""
    rows = table(library, records)
    if kind == 'parquet':
        rows.to_parquet(tmp_path / 'a.parquet')
    else:
        rows.save_to_disk(tmp_path / 'saved')
        (tmp_path / 'saved/data-00000-of-00001.arrow').rename(tmp_path / 'a.arrow')
        shutil.rmtree(tmp_path / 'saved')
    asked = []

    def resolve(host, *args, **kwargs):
        asked.append(host)
        raise OSError('no network')

    monkeypatch.setattr(socket, 'getaddrinfo', resolve)
    assert len(build(tmp_path)) == 12
    assert not asked


def test_arrow_files(library, loose, records, tmp_path):
    table(library, records).save_to_disk(str(tmp_path / 'saved'))
    for name in ('state.json', 'dataset_info.json'):
        (tmp_path / 'saved' / name).unlink()
    check_same(loose, build(tmp_path / 'saved'))


def test_bytes_without_names(library, loose, records, tmp_path):
    rows = [record['bytes'] for record in records['image']]
    library.Dataset.from_dict(dict(img=rows)).to_parquet(str(tmp_path / 'a.parquet'))
    dataset = build(tmp_path)
    assert dataset.get_data_info(3)['img_path'] == f'{tmp_path}/train[img]/00000003'
    assert [read_bytes(dataset.get_data_info(i)['img_path']) for i in range(12)] == rows


def test_a_table_of_names_reads_the_files(library, loose, tmp_path):
    rows = [dict(bytes=None, path=str(path)) for path in sorted(loose.iterdir())]
    features = library.Features(image=library.Image())
    saved = library.Dataset.from_dict(dict(image=rows), features=features)
    parquet = pytest.importorskip('pyarrow.parquet')  # save_to_disk would read the files
    parquet.write_table(saved.data.table, tmp_path / 'a.parquet')
    check_same(loose, build(tmp_path, table=dict(image='image')))


def test_labels_and_their_names(library, records, tmp_path):
    table(library, records).save_to_disk(str(tmp_path / 'saved'))
    dataset = build(tmp_path / 'saved', LabelledImages)
    assert [dataset.get_data_info(i)['gt_label'] for i in range(12)] == records['label']
    assert dataset.classes == ('cat', 'dog', 'newt')
    assert dataset.num_classes == 3
    assert 'gt_label' not in build(tmp_path / 'saved').get_data_info(0)
    texts = build(tmp_path / 'saved', LabelledImages, table=dict(label='caption'))
    assert texts.classes == tuple(sorted(records['caption']))
    assert texts.get_data_info(11)['gt_label'] == texts.classes.index('picture 11')
    (tmp_path / 'parquet').mkdir()
    table(library, records).to_parquet(str(tmp_path / 'parquet/a.parquet'))
    (tmp_path / 'list.txt').write_text(
        'train[image]/00000004_0004.jpg\ntrain[image]/00000002_0002.jpg'
    )
    listed = build(tmp_path / 'parquet', LabelledImages, ann_file=str(tmp_path / 'list.txt'))
    assert [listed.get_data_info(i)['gt_label'] for i in range(2)] == [1, 2]
    assert listed.classes == ('cat', 'dog', 'newt')
    with pytest.raises(ValueError, match='has other classes than classes says: cat, dog, newt'):
        build(tmp_path / 'saved', LabelledImages, metainfo=dict(classes=('a', 'b', 'c')))


def test_bad_images_give_way_and_are_found(library, loose, records, tmp_path):
    images = list(records['image'])
    images[4] = dict(bytes=b'no image', path='0004.jpg')
    images[6] = dict(bytes=encoded('JPEG')[:300], path='0006.jpg')
    images[7] = None
    table(library, dict(records, image=images)).save_to_disk(str(tmp_path / 'saved'))
    dataset = build(tmp_path / 'saved')
    reasons = {}
    for place in range(12):
        np.random.seed(0)
        reasons.update(dataset[place]['data_samples'].get('bad_images', []))
    found = find(str(tmp_path / 'saved'))
    report = check(found.paths, 2)
    assert report.bad == reasons
    assert [os.path.basename(path) for path in report.bad] == [
        '00000004_0004.jpg', '00000006_0006.jpg', '00000007',
    ]  # fmt: skip
    undecodable, _, missing = report.bad.values()
    assert undecodable == 'not an image'
    assert missing == 'not readable: its row has no image'
    written = write_good(str(tmp_path / 'good.txt'), found, report)
    good = build(tmp_path / 'saved', ann_file=written[0])
    assert len(good) == 9
    assert 'bad_images' not in good[4]['data_samples']


@pytest.mark.parametrize(
    ('context', 'workers'), [('fork', 2), (CONTEXT, 1)], ids=['fork', 'forkserver']
)
def test_data_workers_read_the_same(library, records, tmp_path, context, workers):
    table(library, records).save_to_disk(str(tmp_path / 'saved'))
    dataset = UnlabelledImages(
        data_root=str(tmp_path / 'saved'), pipeline=[dict(type='mcl_mm.LoadAnyImage')]
    )
    alone = [dataset[place]['img'] for place in range(12)]
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context=context
    )
    assert all(np.array_equal(a, b['img']) for a, b in zip(alone, loader))


def test_splits_have_to_be_chosen(library, loose, records, tmp_path):
    rows = table(library, records)
    splits = library.DatasetDict(train=rows, test=rows.select([5, 6]))
    splits.save_to_disk(str(tmp_path / 'saved'))
    (tmp_path / 'parquet').mkdir()
    for name, split in splits.items():
        split.to_parquet(str(tmp_path / f'parquet/{name}-00000-of-00001.parquet'))
    for folder in (tmp_path / 'saved', tmp_path / 'parquet'):
        with pytest.raises(
            ValueError, match=r'several splits \(train, test\): choose with \S+table\.split=NAME'
        ):
            build(folder)
        with pytest.raises(ValueError, match=r"has no split 'val': there are train, test"):
            build(folder, table=dict(split='val'))
        check_same(loose, build(folder, table=dict(split='test')), [5, 6])
    check_same(loose, build(tmp_path / 'saved/train'))


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ({}, r'several image columns \(image, mask\): choose with \S+table\.image=NAME'),
        (
            dict(image='pixels'),
            r"has no image column 'pixels': there are image, label, caption, mask",
        ),
        ('train', r"table must be a dict of texts, of split, image, label, got 'train'"),
        (dict(column='image'), r'table must be a dict of texts'),
    ],
)
def test_columns_have_to_be_chosen(library, loose, records, tmp_path, setting, message):
    rows = dict(records, mask=records['image'])
    features = table(library, records).features.copy()
    features['mask'] = library.Image()
    library.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / 'saved'))
    with pytest.raises(ValueError, match=message):
        build(tmp_path / 'saved', table=setting)
    check_same(loose, build(tmp_path / 'saved', table=dict(image='mask')))


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        (dict(image=[encoded('JPEG')] * 3), r'no clear label columns \(image\): choose with'),
        (dict(image=[encoded('JPEG')] * 3, label=[0, 1, -1]), 'row 2 of .* has no label.*got -1'),
        (
            dict(image=[encoded('JPEG')] * 3, label=[0, 1, None]),
            'row 2 of .* has no label.*got None',
        ),
        (dict(image=[encoded('JPEG')] * 3, label=[0.5, 1, 2]), 'row 0 of .* has no label.*got 0.5'),
        (dict(image=[encoded('JPEG')] * 3, label=[1, 1, 1]), 'all 3 images of .* are of one class'),
        (dict(caption=['text']), r'no clear image columns \(caption\): choose with'),
    ],
)
def test_tables_without_what_is_needed(library, tmp_path, rows, message):
    library.Dataset.from_dict(rows).save_to_disk(str(tmp_path / 'saved'))
    with pytest.raises(ValueError, match=message):
        build(tmp_path / 'saved', LabelledImages)


@pytest.mark.parametrize('name', ['saved/data-00000-of-00001.arrow', 'saved/state.json'])
def test_files_that_are_cut_off(library, records, tmp_path, name):
    table(library, records).save_to_disk(str(tmp_path / 'saved'))
    os.truncate(tmp_path / name, 150)
    with pytest.raises(ValueError, match=r'saved/? cannot be read as a table \('):
        build(tmp_path / 'saved')


def test_parquet_that_is_none_and_tables_without_rows(library, records, tmp_path):
    (tmp_path / 'a.parquet').write_bytes(b'text')
    with pytest.raises(ValueError, match=r'cannot be read as a table \('):
        build(tmp_path)
    table(library, records).select([]).save_to_disk(str(tmp_path / 'empty'))
    with pytest.raises(ValueError, match='no image in|without rows'):
        build(tmp_path / 'empty')
    table(library, records).save_to_disk(str(tmp_path / 'saved'))
    with pytest.raises(ValueError, match='is a table, which has no folders'):
        build(tmp_path / 'saved', folders=['a'])


def test_notes_in_parquet_beside_loose_images_change_nothing(library, records, tmp_path):
    draw_images(tmp_path, 3)
    table(library, records).to_parquet(str(tmp_path / 'metadata.parquet'))
    assert len(build(tmp_path)) == 3
