"""Images in tables that HuggingFace ``datasets`` reads: ``save_to_disk``, Arrow and Parquet files."""

import errno
import functools
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

UNNAMED = 'rows'  # what the paths of a table without splits begin with
SETTING = 'train_dataloader.dataset.table'
ROWS: dict[
    str, Any
] = {}  # open columns of images; forked processes inherit them, others open them again


def is_saved(folder: str) -> bool:
    """Whether ``save_to_disk`` has written a folder."""
    names = ('state.json', 'dataset_dict.json')
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


@functools.lru_cache(maxsize=1024)
def find_kind(folder: str) -> str:
    """What files a table's folder has.

    Returns:
        str: ``'saved'`` for ``save_to_disk``, ``'parquet'``, ``'arrow'``, or '' for no table.
    """
    if is_saved(folder):
        return 'saved'
    for place in ('', 'data'):  # where a repository of data sets has its files
        for kind in ('parquet', 'arrow'):
            if glob.glob(os.path.join(glob.escape(folder), place, f'*.{kind}')):
                return kind
    return ''


def import_datasets() -> Any:
    """HuggingFace's library.

    Raises:
        ValueError: It is not installed, or its import fails.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f'images in Arrow or Parquet files need the library datasets ({error}): install it with '
            'pip install "mcl_mm[tables]" or pip install datasets'
        ) from error
    # It counts every load on a server, and a machine without a network waits for the answer.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets


def load_splits(folder: str) -> dict[str, Any]:
    """All splits of a table, by name; ``UNNAMED`` for one without a name.

    Raises:
        OSError, ValueError: The library cannot read it.
    """
    datasets, kind = import_datasets(), find_kind(folder)
    try:
        if kind == 'saved':
            found = datasets.load_from_disk(folder)
        else:  # copies them once into files that are mapped into memory, in HF_DATASETS_CACHE
            found = datasets.load_dataset(kind, data_dir=os.path.abspath(folder))
    except IndexError as error:  # the library writes no file for it
        raise ValueError(f'{folder} is a table without rows: it has no image') from error
    except Exception as error:  # of several libraries
        details = ' '.join(str(error.__cause__ or error).split())
        raise ValueError(f'{folder} cannot be read as a table ({details})') from error
    return dict(found) if isinstance(found, dict) else {UNNAMED: found}


def choose(
    what: str, candidates: Sequence[str], wanted: Optional[str], where: str, all_of: Sequence
) -> str:
    """The split or column that is meant.

    Raises:
        ValueError: The one that is wanted is not there; or it is not clear which is meant.
    """
    if wanted is not None:
        if wanted in all_of:
            return wanted
        raise ValueError(f'{where} has no {what} {wanted!r}: there are {", ".join(all_of)}')
    if len(candidates) == 1:
        return candidates[0]
    key = what.partition(' ')[0]
    raise ValueError(
        f'{where} has {"several" if candidates else "no clear"} {what}s '
        f'({", ".join(candidates or all_of)}): choose with {SETTING}.{key}=NAME'
    )


def image_columns(features: Mapping[str, Any]) -> list[str]:
    """Columns that may hold images: those that say so, else bytes, bare or with a path."""
    import pyarrow as pa

    datasets = import_datasets()
    said = [name for name, f in features.items() if isinstance(f, datasets.Image)]
    if said:
        return said
    types = features.arrow_schema
    return [name for name in features if holds_bytes(pa, types.field(name).type)]


def holds_bytes(pa: Any, kind: Any) -> bool:
    """Whether an Arrow type is bytes, or a record that has some."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index('bytes')
        return place >= 0 and holds_bytes(pa, kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def label_columns(features: Mapping[str, Any]) -> list[str]:
    """Columns that may hold classes."""
    datasets = import_datasets()
    said = [name for name, f in features.items() if isinstance(f, datasets.ClassLabel)]
    return said or [name for name in features if name.lower() in ('label', 'labels', 'class')]


def read_row(container: str, name: str) -> bytes:
    """The bytes of one image.

    Args:
        container (str): ``FOLDER/SPLIT[COLUMN]``.
        name (str): Number of the row, and whatever follows a ``_``.

    Raises:
        OSError: There is none, or it lies in a file that cannot be read.
        ValueError: The table cannot be opened.
    """
    if container not in ROWS:
        folder, part = os.path.split(container)
        split, column = re.fullmatch(r'(.*)\[(.*)\]', part).groups()
        ROWS[container] = open_rows(load_splits(folder)[split], column)
    rows, number = ROWS[container], name.partition('_')[0]
    if not number.isdecimal() or int(number) >= len(rows):
        raise OSError(errno.ENOENT, 'its table has no such row')
    value = rows[int(number)].column(0)[0].as_py()
    content, path = (
        (value.get('bytes'), value.get('path')) if isinstance(value, dict) else (value, None)
    )
    if content is None and path:  # a table of names, as one of a folder is
        with open(path, 'rb') as file:
            return file.read()
    if content is None:
        raise OSError(errno.ENODATA, 'its row has no image')
    return content


def open_rows(split: Any, column: str) -> Any:
    """One column of a split as Arrow has it: nothing is decoded."""
    return split.select_columns([column]).with_format('arrow')


def suffix(path: Optional[str]) -> str:
    """What the number of a row is followed by."""
    return '_' + re.sub(r'[^\w.-]', '_', os.path.basename(path)) if path else ''


class Table:
    """A folder that ``datasets`` can read.

    Args:
        folder (str): The folder.
        table (Mapping[str, str]): ``split``, ``image`` and ``label``: which split, and the names of the
            columns. Needed where there are several.

    Raises:
        OSError, ValueError: ``datasets`` is not installed or cannot read the folder; or it is not clear
            which split or column is meant.
    """

    def __init__(self, folder: str, table: Mapping[str, str]) -> None:
        splits = load_splits(folder)
        self.folder, self.table = folder, table
        self.split = choose('split', list(splits), table.get('split'), folder, list(splits))
        self.rows = splits[self.split]
        features = self.rows.features
        self.column = choose(
            'image column', image_columns(features), table.get('image'), folder, list(features)
        )
        if re.search(r'[][/]', self.column):
            raise ValueError(
                f'{folder}: rename column {self.column}, a name without brackets and slashes'
            )
        self.container = os.path.join(folder, f'{self.split}[{self.column}]')
        ROWS[self.container] = open_rows(self.rows, self.column)
        self.class_names: Optional[tuple[str, ...]] = None

    def find(
        self, folders: Sequence[str], extensions: Sequence[str], labels: bool
    ) -> tuple[list[dict], 'Counter[str]']:
        """The images of the table; see :meth:`Shards.find`. Names decide nothing: all rows are images.

        Raises:
            ValueError: ``folders`` are given; or labels cannot be used.
        """
        if folders:
            raise ValueError(f'{self.folder} is a table, which has no folders to choose from')
        data_list = [
            dict(img_path=os.path.join(self.container, f'{number:08d}{name}'))
            for number, name in enumerate(self.names())
        ]
        if labels:
            for info, label in zip(data_list, self.labels()):
                info['gt_label'] = label
        return data_list, Counter()

    def names(self) -> Iterator[str]:
        """What follows the number of each row: ``_`` and the name of a file, where the table has one."""
        rows = ROWS[self.container]
        for begin in range(0, len(rows), 256):  # rows that were chosen from others are copied
            column = rows[begin : begin + 256].column(0)
            has_path = getattr(column.type, 'get_field_index', lambda name: -1)('path') >= 0
            for chunk in column.chunks:
                paths = chunk.field('path').to_pylist() if has_path else [None] * len(chunk)
                yield from (suffix(path) for path in paths)

    def labels(self) -> list[int]:
        """Class of each row. Texts are numbered in their order.

        Raises:
            ValueError: There is no such column, or a row has no class.
        """
        features = self.rows.features
        column = choose(
            'label column',
            label_columns(features),
            self.table.get('label'),
            self.folder,
            list(features),
        )
        values = list(self.rows.select_columns([column]).with_format(None)[column])
        self.class_names = tuple(getattr(features[column], 'names', None) or ())
        if values and all(isinstance(value, str) for value in values):
            self.class_names = tuple(sorted(set(values)))
            numbers = {name: number for number, name in enumerate(self.class_names)}
            return [numbers[value] for value in values]
        for number, value in enumerate(values):
            if not isinstance(value, int) or value < 0:
                raise ValueError(
                    f'row {number} of {self.folder} has no label: column {column} should hold texts or '
                    f'integers from 0, got {value!r}'
                )
        return values

    def path_of(self, name: str) -> str:
        """Path of a list's image."""
        return os.path.join(self.folder, name)
