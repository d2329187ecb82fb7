"""Subsets of COCO: the right size, whole, nested within a fold, the same for a seed."""

import json
import re

import pytest

from mcl_mm.cli import main
from mcl_mm.datasets import coco_subsets


@pytest.fixture
def annotations(tmp_path):
    """200 images, image i with i % 4 annotations, ids neither sorted nor dense."""
    ids = [7 * i % 211 for i in range(200)]
    coco = dict(
        info=dict(year=2017),
        images=[dict(id=i, file_name=f'{i}.jpg') for i in ids],
        annotations=[
            dict(id=1000 * i + k, image_id=i, category_id=k) for i in ids for k in range(i % 4)
        ],
        categories=[dict(id=k, name=str(k)) for k in range(9)],
    )
    path = tmp_path / 'instances_train2017.json'
    path.write_text(json.dumps(coco))
    return path


def call(*arguments):
    """Run the command, which ends by raising SystemExit: with None, or what went wrong."""
    with pytest.raises(SystemExit) as end:
        main('subsets', [*map(str, arguments)])
    return end.value.code


def image_ids(path):
    return [image['id'] for image in json.loads(path.read_text())['images']]


def test_subsets(annotations, tmp_path, capsys):
    out = tmp_path / 'deep/out'
    call(annotations, out)
    whole = json.loads(annotations.read_text())
    files = {path.name for path in out.iterdir()}
    assert files == {
        f'instances_train2017.{fold}@{percent}.json'
        for fold in range(1, 6)
        for percent in (1, 5, 10)
    }
    for fold in range(1, 6):
        smaller = set()
        for percent in (1, 5, 10):
            path = out / f'instances_train2017.{fold}@{percent}.json'
            subset = json.loads(path.read_text())
            chosen = image_ids(path)
            assert len(chosen) == len(set(chosen)) == 200 * percent // 100
            assert smaller <= set(chosen)  # nested
            smaller = set(chosen)
            # Everything of the chosen images, in the file's order, and nothing else.
            assert subset['images'] == [x for x in whole['images'] if x['id'] in smaller]
            assert subset['annotations'] == [
                x for x in whole['annotations'] if x['image_id'] in smaller
            ]
            assert subset['categories'] == whole['categories']
            assert subset['info'] == whole['info']
    tens = [tuple(image_ids(out / f'instances_train2017.{fold}@10.json')) for fold in range(1, 6)]
    assert len(set(tens)) == 5
    assert '5@10.json: 20 of 200 images' in capsys.readouterr().out


def test_seed_decides_whatever_else_is_asked_for(annotations, tmp_path):
    call(annotations, tmp_path / 'a')
    call(annotations, tmp_path / 'b', '--percent', 5, 0.5, '--folds', 2)
    call(annotations, tmp_path / 'c', '--percent', 5, '--folds', 2, '--seed', 1)
    # Another order of the images in the file draws the same ones.
    shuffled = json.loads(annotations.read_text())
    shuffled['images'].reverse()
    annotations.write_text(json.dumps(shuffled))
    call(annotations, tmp_path / 'd', '--percent', 5, '--folds', 2)
    for fold in (1, 2):
        name = f'instances_train2017.{fold}@5.json'
        a, b, c, d = (image_ids(tmp_path / folder / name) for folder in 'abcd')
        assert a == b
        assert set(a) != set(c)
        assert a == d[::-1]
    assert len(image_ids(tmp_path / 'b/instances_train2017.2@0.5.json')) == 1


def test_every_image_is_as_likely(annotations):
    coco = coco_subsets.read_coco(annotations)
    counts = dict.fromkeys(image_ids(annotations), 0)
    for fold in range(1, 401):
        for image in coco_subsets.draw(coco, 10, fold, 0)['images']:
            counts[image['id']] += 1
    # Binomial, 400 draws at 0.1: mean 40, standard deviation 6.
    assert sum(counts.values()) == 400 * 20
    assert min(counts.values()) > 40 - 5 * 6
    assert max(counts.values()) < 40 + 5 * 6


def test_ids_of_two_kinds_are_drawn(tmp_path):
    """As joined exports have them: a number and a text that look alike are two images."""
    ids = [str(i) if i % 2 else i // 2 for i in range(40)]
    coco = dict(
        images=[dict(id=i) for i in ids],
        annotations=[dict(id=n, image_id=i) for n, i in enumerate(ids)],
        categories=[],
    )
    (tmp_path / 'a.json').write_text(json.dumps(coco))
    assert call(tmp_path / 'a.json', tmp_path / 'out', '--percent', 50, 100, '--folds', 2) is None
    half = json.loads((tmp_path / 'out/a.1@50.json').read_text())
    chosen = [image['id'] for image in half['images']]
    assert len(set(map(repr, chosen))) == 20
    assert [a['image_id'] for a in half['annotations']] == chosen
    assert {type(i) for i in chosen} == {int, str}
    assert json.loads((tmp_path / 'out/a.2@100.json').read_text()) == coco


@pytest.mark.parametrize(
    ('content', 'options', 'message'),
    [
        (None, ['--percent', 0], r'ValueError: --percent must lie in \(0, 100\], got 0'),
        (None, ['--percent', 101], r'ValueError: --percent must lie in .*got 101'),
        (None, ['--percent', 'nan'], r'ValueError: --percent must lie in .*got nan'),
        (None, ['--percent', 0.1], 'ValueError: 0.1 percent of 200 images is less than one'),
        (None, ['--folds', 0], 'ValueError: --folds must be at least 1'),
        ('{"images": [', [], 'ValueError: .*train2017.json is not a JSON file'),
        ('[]', [], 'ValueError: .* no list of images, annotations, categories'),
        ('{"images": [], "annotations": []}', [], 'ValueError: .* no list of categories'),
        ('{"images": [{}], "annotations": [], "categories": []}', [],
         'ValueError: .*an image needs an id.*image 1 has None'),
        ('{"images": [{"id": 1}, {"id": null}], "annotations": [], "categories": []}', [],
         'ValueError: .*image 2 has None'),
        ('{"images": [{"id": true}], "annotations": [], "categories": []}', [],
         'ValueError: .*image 1 has True'),
        ('{"images": [{"id": NaN}], "annotations": [], "categories": []}', [],
         'ValueError: .*image 1 has nan'),
        ('{"images": [{"id": [1]}], "annotations": [], "categories": []}', [],
         r'ValueError: .*image 1 has .1.'),
        ('{"images": ["a.jpg"], "annotations": [], "categories": []}', [],
         "ValueError: .*image 1 has 'a.jpg'"),
        ('{"images": [{"id": 1}], "annotations": [{}], "categories": []}', [],
         'ValueError: .*annotation 1 has None'),
        ('{"images": [{"id": 1}], "annotations": [null], "categories": []}', [],
         'ValueError: .*annotation 1 has None'),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": "1"}], "categories": []}', [],
         "ValueError: .*does not list, first image_id '1'"),
        ('{"images": null, "annotations": [], "categories": {}}', [],
         'ValueError: .*no list of images, categories'),
        ('[' * 100000, [], 'ValueError: .*not a JSON file'),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": [], "categories": []}', [],
         'ValueError: .*1 images with the id of another'),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": 2}], "categories": []}', [],
         'ValueError: .*annotations of 1 images that it does not list, first image_id 2'),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_clear_error(annotations, tmp_path, content, options, message):
    if content:
        annotations.write_text(content)
    code = call(annotations, tmp_path / 'out', *options)
    assert re.match(message, str(code)), code
    assert not (tmp_path / 'out').exists()


def test_nothing_is_written_before_all_is_checked(annotations, tmp_path):
    assert 'less than one' in call(annotations, tmp_path / 'out', '--percent', 5, 0.1)
    assert not (tmp_path / 'out').exists()


def test_missing_file(tmp_path):
    assert re.match('FileNotFoundError: .*nowhere', call('/nowhere.json', tmp_path))


def write_ids(path, image_id, annotation_id):
    coco = dict(
        images=[dict(id=image_id, file_name='a.jpg'), dict(id=5, file_name='b.jpg')],
        annotations=[dict(id=1, image_id=annotation_id, category_id=1)],
        categories=[dict(id=1, name='x')],
    )
    path.write_text(json.dumps(coco))


def test_an_id_of_another_type_is_named(tmp_path):
    write_ids(tmp_path / 'a.json', 1, '1')
    said = call(tmp_path / 'a.json', tmp_path / 'out', '--percent', 50)
    assert "first image_id '1', and an image has the id 1: write both as numbers" in said
    assert not (tmp_path / 'out').exists()


def test_ids_of_any_size_are_kept(tmp_path):
    write_ids(tmp_path / 'a.json', 10**30, 10**30)
    assert call(tmp_path / 'a.json', tmp_path / 'out', '--percent', 100, '--folds', 1) is None
    subset = json.loads((tmp_path / 'out/a.1@100.json').read_text())
    assert [image['id'] for image in subset['images']] == [10**30, 5]
    assert subset['annotations'][0]['image_id'] == 10**30


def test_a_path_that_is_wrong_is_said_with_what_to_do(tmp_path):
    assert 'nope.json: No such file or directory. Check the path' in call(
        tmp_path / 'nope.json', tmp_path / 'out'
    )
    assert 'Is a directory. Give a file, not a folder' in call(tmp_path, tmp_path / 'out')
