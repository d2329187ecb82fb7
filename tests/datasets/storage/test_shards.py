"""Images in tar shards are those of the loose files, in every bit, and bad shards are told apart."""

import io
import os
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bad_files import UNUSABLE, USABLE, encoded, picture
from conftest import draw_images
from mcl_mm.datasets import LabelledImages, UnlabelledImages, read_image, seed_worker
from mcl_mm.datasets.check import check, find, write_good
from mcl_mm.datasets.pack import index, pack
from mcl_mm.datasets.storage import read_bytes, unpacked
from mcl_mm.datasets.storage.shards import INDEX, OPEN_SHARDS
from mcl_mm.engine.exact_resume import fingerprint
from processes import CONTEXT

PIPELINE = [
    dict(type='mcl_mm.LoadAnyImage', min_side=32),
    dict(type='mcl_mm.NativeViews', side=32),
    dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
]


@pytest.fixture()
def loose(tmp_path):
    """Two classes of images, of which one lies deeper."""
    draw_images(tmp_path / 'loose/cat', 7)
    draw_images(tmp_path / 'loose/a dog/deeper', 5, seed=1)
    return tmp_path / 'loose'


@pytest.fixture()
def packed(loose, tmp_path):
    """The same in shards of 3 images or so."""
    pack(str(loose), str(tmp_path / 'packed'), 12000)
    return tmp_path / 'packed'


def build(folder, kind=UnlabelledImages, **kwargs):
    return kind(data_root=str(folder), pipeline=PIPELINE, **kwargs)


def sample(dataset, place):
    np.random.seed(place)
    found = dataset[place]
    return found['inputs'], found['data_samples']


def names(dataset):
    root = dataset.data_root
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    return [os.path.relpath(unpacked(path), root) for path in paths]


def write_tar(path, files, form=tarfile.PAX_FORMAT, mode='w'):
    """A shard of another program: pairs of name and content."""
    with tarfile.open(path, mode, format=form) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1e9 + 0.5
            tar.addfile(info, io.BytesIO(content))


def test_views_are_equal_in_every_bit(loose, packed):
    one, other = build(loose), build(packed)
    assert len(list(packed.glob('*.tar'))) == 3
    assert len(one) == len(other) == 12
    assert names(one) == names(other)
    for place in range(12):
        views, others = sample(one, place)[0], sample(other, place)[0]
        assert len(views) == len(others) == 8
        assert all(torch.equal(a, b) for a, b in zip(views, others))


def test_every_kind_of_file_is_judged_as_if_it_were_loose(tmp_path):
    for number, (name, write, *_) in enumerate([*UNUSABLE.values(), *USABLE.values()]):
        folder = tmp_path / f'loose/{number:02}'
        folder.mkdir(parents=True)
        write(folder / name)
        if (folder / name).is_symlink():  # to nothing, which cannot be packed
            (folder / name).unlink()
    pack(str(tmp_path / 'loose'), str(tmp_path / 'packed'), 10**6)
    found = [find(str(tmp_path / kind)) for kind in ('loose', 'packed')]
    reports = [check(images.paths, 2) for images in found]
    assert len(found[0].paths) == len(found[1].paths) >= 18
    loose, packed = (
        {
            os.path.relpath(unpacked(path), images.folder): reason
            for path, reason in report.bad.items()
        }
        for images, report in zip(found, reports)
    )
    assert loose.keys() == packed.keys()
    for path, reason in loose.items():
        assert packed[path].split(':')[0] == reason.split(':')[0]
    assert reports[0].value_range == reports[1].value_range is not None
    good = write_good(str(tmp_path / 'good.txt'), found[1], reports[1])
    dataset = build(tmp_path / 'packed', ann_file=good[0])
    assert len(dataset) == len(found[1].paths) - len(packed)
    assert dataset.value_range == reports[1].value_range


def test_a_bad_image_gives_way_to_the_same_other_one(loose, tmp_path):
    (loose / 'cat/0003.jpg').write_bytes(b'text')
    (loose / 'cat/0005.jpg').write_bytes(b'')
    pack(str(loose), str(tmp_path / 'packed'), 12000)
    one, other = build(loose), build(tmp_path / 'packed')
    noted = 0
    for place in range(12):
        (views, sample_1), (others, sample_2) = sample(one, place), sample(other, place)
        assert all(torch.equal(a, b) for a, b in zip(views, others))
        notes = [
            [(unpacked(p).split('/cat/')[1], why) for p, why in s.get('bad_images', [])]
            for s in (sample_1, sample_2)
        ]
        assert notes[0] == notes[1]
        noted += len(notes[0])
    assert noted >= 2


def test_values_of_16_bits_get_the_same_range(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'loose').mkdir()
    for number in range(5):
        values = rng.integers(100, 4000, (40, 40)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f'loose/{number}.png')
    pack(str(tmp_path / 'loose'), str(tmp_path / 'packed'), 10**6)
    one, other = build(tmp_path / 'loose'), build(tmp_path / 'packed')
    assert one.value_range == other.value_range is not None


def test_folders_in_shards_are_classes(loose, packed):
    one, other = build(loose, LabelledImages), build(packed, LabelledImages)
    assert one.classes == other.classes == ('a dog', 'cat')
    labels = [[d.get_data_info(i)['gt_label'] for i in range(12)] for d in (one, other)]
    assert labels[0] == labels[1] == [0] * 5 + [1] * 7
    assert 'gt_label' not in build(packed).get_data_info(0)


def test_folders_of_the_set_can_be_chosen(loose, packed):
    assert names(build(packed, folders=['cat'])) == names(build(loose, folders=['cat']))
    for folders in (['ca'], ['cat', 'ca']):
        with pytest.raises(FileNotFoundError, match="no folder 'ca' in the shards of"):
            build(packed, folders=folders)


@pytest.mark.parametrize(
    ('context', 'workers', 'epochs'),
    [('fork', 2, 2), (CONTEXT, 1, 1)],
    ids=['fork', 'forkserver'],
)
def test_data_workers_read_the_same(packed, context, workers, epochs):
    dataset = build(packed)
    alone = [sample(dataset, place)[1].img_path for place in range(12)]
    loader = torch.utils.data.DataLoader(
        Seeded(dataset), batch_size=None, num_workers=workers, multiprocessing_context=context,
        worker_init_fn=seed_worker if context == 'fork' else None,
    )  # fmt: skip
    for _ in range(epochs):  # the second epoch's workers are forked from a process that has read
        found = list(loader)
        assert [path for _, path in found] == alone
        for place, (views, _) in enumerate(found):
            assert all(torch.equal(a, b) for a, b in zip(views, sample(dataset, place)[0]))


class Seeded(torch.utils.data.Dataset):
    """Views of an image that follow from its place alone, whichever process makes them."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, place):
        views, found = sample(self.dataset, place)
        return views, found.img_path


def test_lists_of_the_loose_files_go_on_working(loose, packed, tmp_path):
    lines = ['cat/0002.jpg 5', './cat/0000.jpg 3', 'a dog/deeper/0001.jpg 0']
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    one, other = (
        build(d, LabelledImages, ann_file=str(tmp_path / 'list.txt')) for d in (loose, packed)
    )
    for place in range(3):
        assert all(
            torch.equal(a, b) for a, b in zip(sample(one, place)[0], sample(other, place)[0])
        )
        assert one.get_data_info(place)['gt_label'] == other.get_data_info(place)['gt_label']


def test_a_checkpoint_of_loose_files_is_one_of_the_packed(loose, packed):
    assert (
        fingerprint(build(loose)) == fingerprint(build(packed)) == fingerprint(build(f'{loose}/'))
    )
    assert fingerprint(build(loose, folders=['cat'])) != fingerprint(build(packed))


def test_packing_copies_bytes_and_repeats(loose, packed, tmp_path):
    for info in build(packed):
        path = info['data_samples'].img_path
        assert read_bytes(path) == Path(unpacked(path).replace('/packed/', '/loose/')).read_bytes()
    again = tmp_path / 'again'
    pack(str(loose), str(again), 12000)
    assert sorted(os.listdir(again)) == sorted(os.listdir(packed))
    for shard in packed.glob('*.tar'):
        assert shard.read_bytes() == (again / shard.name).read_bytes()
        with tarfile.open(shard) as tar:  # whole, and no more than asked for unless alone
            sizes = [member.size for member in tar]
        assert sum(sizes) <= 12000 or len(sizes) == 1


def test_packing_appears_as_a_whole_or_not_at_all(loose, tmp_path):
    (loose / 'cat/9999.jpg').symlink_to(loose / 'gone')
    with pytest.raises(OSError, match='9999'):
        pack(str(loose), str(tmp_path / 'out'), 12000)
    assert sorted(os.listdir(tmp_path)) == ['loose']
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/mine').touch()
    with pytest.raises(FileExistsError, match='out is there already'):
        pack(str(loose), str(tmp_path / 'out'), 12000)
    assert os.listdir(tmp_path / 'out') == ['mine']


def test_what_is_packed_is_not_packed_again(packed, tmp_path):
    with pytest.raises(ValueError, match='needs no packing'):
        pack(str(packed), str(tmp_path / 'twice'), 12000)


@pytest.mark.parametrize('form', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_shards_of_other_programs(tmp_path, form):
    """Long names, dots, hidden files, notes, folders, links, and a name that comes twice."""
    long = 'd' * 90 + '/' + 'n' * 60 + '.jpg'
    old, new = encoded('PNG'), encoded('JPEG')
    files = [
        ('./x/a.png', old), ('x/.a.png', old), ('__MACOSX/b.png', old), ('x/a.json', b'{}'),
        (long, new), ('twice.jpg', old), ('x/empty.jpg', b''), ('twice.jpg', new),
    ]  # fmt: skip
    write_tar(tmp_path / 'b.tar', files, form)
    with tarfile.open(tmp_path / 'b.tar', 'a', format=form) as tar:
        folder, link = tarfile.TarInfo('x'), tarfile.TarInfo('x/link.jpg')
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, 'a.png'
        tar.addfile(folder)
        tar.addfile(link)
    done = index(str(tmp_path))
    assert done.passed_over['earlier files of the same name'] == 1
    dataset = build(tmp_path)
    assert names(dataset) == ['x/a.png', long, 'x/empty.jpg', 'twice.jpg']
    assert dataset.passed_over == Counter({'hidden': 2, '.json': 1})
    read = [read_bytes(dataset.get_data_info(i)['img_path']) for i in range(4)]
    assert read == [old, new, b'', new]


def test_classes_beside_images_in_webdatasets_layout(tmp_path):
    samples = [(f'{n:04}', n % 3) for n in range(9)]
    for shard in range(2):  # with the same names in both
        files = []
        for name, label in samples:
            files += [(f'{name}.cls', f'{label}\n'.encode()), (f'{name}.jpg', encoded('JPEG'))]
        write_tar(tmp_path / f'{shard}.tar', files)
    assert index(str(tmp_path)).labels == 18
    dataset = build(tmp_path, LabelledImages)
    labels = [dataset.get_data_info(i)['gt_label'] for i in range(18)]
    assert labels == [label for _, label in samples] * 2
    assert dataset.num_classes == 3
    (tmp_path / 'list.txt').write_text('0001.jpg')
    with pytest.raises(ValueError, match=r'lies in 2 shards of .*: write 0\.tar/0001\.jpg into'):
        build(tmp_path, ann_file=str(tmp_path / 'list.txt'))
    (tmp_path / 'list.txt').write_text('1.tar/0001.jpg')
    assert len(build(tmp_path, ann_file=str(tmp_path / 'list.txt'))) == 1
    (tmp_path / 'list.txt').write_text(
        '1.tar/0004.jpg\n0.tar/0003.jpg'
    )  # as check-images writes it
    listed = build(tmp_path, LabelledImages, ann_file=str(tmp_path / 'list.txt'))
    assert [listed.get_data_info(i)['gt_label'] for i in range(2)] == [1, 0]
    (tmp_path / 'list.txt').write_text('1.tar/0004.jpg\n0.tar/gone.jpg')
    with pytest.raises(ValueError, match=r'gone\.jpg of .* has no label: .* does not hold it'):
        build(tmp_path, LabelledImages, ann_file=str(tmp_path / 'list.txt'))
    write_tar(tmp_path / '2.tar', [('x.jpg', encoded('JPEG'))])
    index(str(tmp_path))
    with pytest.raises(ValueError, match=r'2\.tar/x\.jpg has no label'):
        build(tmp_path, LabelledImages)
    assert len(build(tmp_path)) == 19
    write_tar(tmp_path / '2.tar', [('x.jpg', encoded('JPEG')), ('x.cls', b'cat')])
    with pytest.raises(ValueError, match=r"x\.cls of .* should hold an integer from 0.*b'cat'"):
        index(str(tmp_path))
    write_tar(tmp_path / '2.tar', [('x.jpg', encoded('JPEG')), ('x.cls', b'9' * 20)])
    with pytest.raises(ValueError, match=r"x\.cls of .* should hold an integer from 0.*b'999"):
        index(str(tmp_path))


def test_more_shards_than_a_process_may_open(tmp_path):
    content = encoded('JPEG')
    for number in range(OPEN_SHARDS + 30):
        write_tar(tmp_path / f'{number:03}.tar', [('a.jpg', content)])
    index(str(tmp_path))
    dataset = build(tmp_path)
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(2):
        for place in range(len(dataset)):
            assert read_bytes(dataset.get_data_info(place)['img_path']) == content
    assert len(os.listdir('/proc/self/fd')) <= before + OPEN_SHARDS


def test_a_shard_that_changed_after_its_index_gives_no_image(packed):
    dataset = build(packed)
    path = dataset.get_data_info(0)['img_path']
    read_image(path)
    shard = packed / 'images-000000.tar'
    data = shard.read_bytes()
    name = unpacked(path).rpartition('/')[2].encode()
    shard.write_bytes(data.replace(name, name[::-1]))  # as large as before
    with pytest.raises(
        OSError, match=f'its shard is newer than the index: run mcl-mm pack {packed}'
    ):
        read_image(path)
    shard.write_bytes(data[:1000])
    with pytest.raises(OSError, match='its shard ends too early'):
        read_image(path)
    shard.unlink()
    dataset = None
    with pytest.raises(
        FileNotFoundError, match=r'lacks 1 of the shards in its index, first images-0'
    ):
        build(packed)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda d: (d / INDEX).write_bytes(b'PK\3\4 broken'), 'no index of shards, or damaged'),
        (
            lambda d: (d / INDEX).write_bytes((d / INDEX).read_bytes()[:900]),
            'damaged: write it anew',
        ),
        (lambda d: (d / INDEX).write_bytes(b''), 'damaged: write it anew'),
        (lambda d: np.savez(d / INDEX, other=np.zeros(3)), 'no index of shards'),
        (
            lambda d: (d / INDEX).unlink(),
            r'Shards need an index: write it with mcl-mm pack \S+packed',
        ),
        (
            lambda d: os.truncate(d / 'images-000001.tar', 5000),
            r'has 5000 bytes, and \d+ in the index',
        ),
        (
            lambda d: write_tar(d / 'z.tar', []),
            r'1 shards that its index does not know, first z\.tar',
        ),
    ],
)
def test_a_folder_that_was_spoiled_is_refused(packed, spoil, message):
    spoil(packed)
    with pytest.raises((OSError, ValueError), match=message):
        build(packed)


@pytest.mark.parametrize('cut', ['amid a header', 'amid an image', 'behind an image', 'spoiled'])
def test_a_shard_that_is_cut_off_gets_no_index(tmp_path, cut):
    content = encoded('JPEG')
    write_tar(tmp_path / 'a.tar', [(f'{n}.jpg', content) for n in range(4)], tarfile.USTAR_FORMAT)
    member = 512 + 512 * -(-len(content) // 512)
    size = {'amid a header': member + 200, 'amid an image': 2 * member - 300}.get(cut, 3 * member)
    if cut == 'spoiled':
        with open(tmp_path / 'a.tar', 'r+b') as file:
            file.seek(member)
            file.write(b'other bytes' * 40)
    else:
        os.truncate(tmp_path / 'a.tar', size)
    with pytest.raises(ValueError, match=r'a\.tar is cut off, or no uncompressed tar'):
        index(str(tmp_path))
    assert not (tmp_path / INDEX).exists()


def test_no_file_is_opened_for_an_image(packed):
    dataset = build(packed)
    paths = [dataset.get_data_info(place)['img_path'] for place in range(12)]
    contents, opened = [read_bytes(path) for path in paths], []
    watching = True
    sys.addaudithook(
        lambda event, _: opened.append(event) if watching and event == 'open' else None
    )
    assert [read_bytes(path) for path in paths] == contents
    watching = False
    assert not opened


def test_what_is_no_folder_of_shards(tmp_path):
    with pytest.raises(ValueError, match=r'no shard in'):
        index(str(tmp_path))
    tarfile.open(tmp_path / 'a.tar', 'w').close()
    with pytest.raises(ValueError, match=r'no image in the 1 shard\(s\) of'):
        index(str(tmp_path))
    (tmp_path / 'a.tar').write_bytes(b'text' * 999)
    with pytest.raises(ValueError, match=r'no uncompressed tar archive'):
        index(str(tmp_path))
    (tmp_path / 'a.tar').rename(tmp_path / 'a.tar.gz')
    with pytest.raises(ValueError, match=r'1 \.gz\. Shards must not be compressed'):
        build(tmp_path)
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'a.tar.gz').rename(tmp_path / 'sub/a.tar')
    with pytest.raises(ValueError, match=r'Shards lie deeper: give .*/sub'):
        build(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r'it is a file\. Give the folder that it lies in, .*sub'
    ):
        build(tmp_path / 'sub/a.tar')
    with pytest.raises(FileNotFoundError, match=r'at s3://b/x: it is an address: download it'):
        build('s3://b/x')


def test_loose_images_beside_a_shard_stay_the_set(tmp_path):
    """Without an index a tar archive is a file that is passed over, as it was before."""
    picture().save(tmp_path / 'a.png')
    write_tar(tmp_path / 'backup.tar', [('b.png', encoded('PNG'))])
    dataset = build(tmp_path)
    assert names(dataset) == ['a.png']
    assert dataset.passed_over == Counter({'.tar': 1})


def test_folders_whose_names_look_like_containers(tmp_path):
    for name in ('x.tar', 'old[1]'):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / 'a.png')
    dataset = build(tmp_path)
    assert len(dataset) == 2
    for place in range(2):
        assert not sample(dataset, place)[1].get('bad_images')
    (tmp_path / 'old[1]/a.png').unlink()
    (tmp_path / 'old[1]').rmdir()
    with pytest.raises(OSError, match='not readable: No such file'):
        read_image(str(tmp_path / 'old[1]/a.png'))
