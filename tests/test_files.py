"""Files are there as a whole or not at all, whoever writes them."""

import errno
import multiprocessing
import os
import resource
import signal
import socket

import pytest
from mmengine.fileio import get_file_backend

from mcl_mm.engine import AtomicBackend
from mcl_mm.files import (
    SUFFIX,
    append_text,
    atomic_folder,
    atomic_path,
    check_folder,
    check_output,
    make_folder,
    remove_unfinished,
    unfinished,
    write_bytes,
    write_text,
)


def files(folder):
    return sorted(os.listdir(folder))


def test_backend_of_mmengine(tmp_path):
    backend = get_file_backend(str(tmp_path), backend_args=dict(backend='mcl_mm.atomic'))
    assert isinstance(backend, AtomicBackend)
    backend.put(b'one', tmp_path / 'a/b/file')
    backend.put_text('zwei \udcff', tmp_path / 'a/b/file')
    assert (tmp_path / 'a/b/file').read_bytes() == b'zwei \xff'
    assert files(tmp_path / 'a/b') == ['file']


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    old = (
        tmp_path / f'.{socket.gethostname()[:64]}.{2**22 - 1}.x{SUFFIX}'
    )  # of a process that was killed
    old.mkdir()
    (old / 'part').write_text('1')
    with atomic_folder(tmp_path / 'a/b') as folder:
        (tmp_path / 'a/b').mkdir()  # empty, which is no obstacle
        with open(f'{folder}/x', 'w') as file:
            file.write('1')
        assert files(tmp_path / 'a/b') == []
    assert files(tmp_path / 'a/b') == ['x']
    assert files(tmp_path / 'a') == ['b']
    assert os.stat(tmp_path / 'a/b').st_mode == os.stat(tmp_path / 'a').st_mode

    def fail(name):
        with atomic_folder(tmp_path / name) as folder:
            open(f'{folder}/x', 'w').close()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail('c')
    assert files(tmp_path) == ['a']
    for there in ('a', 'a/b/x'):
        with pytest.raises(
            FileExistsError, match='is there already: give the name of a new folder'
        ):
            fail(there)


def test_file_that_reads_back_wrong_is_not_taken(tmp_path, monkeypatch):
    write_bytes(tmp_path / 'file', b'good')
    real = os.fsync

    def lose_a_byte(descriptor):
        real(descriptor)
        if os.fstat(descriptor).st_size == 6:
            os.truncate(unfinished(tmp_path)[0], 5)

    monkeypatch.setattr(os, 'fsync', lose_a_byte)
    with pytest.raises(OSError, match='reads back other than it was written'):
        write_bytes(tmp_path / 'file', b'better')
    assert (tmp_path / 'file').read_bytes() == b'good'
    assert files(tmp_path) == ['file']


@pytest.mark.parametrize('stop', [ValueError, KeyboardInterrupt, SystemExit])
def test_what_was_there_stays_until_the_end(tmp_path, stop):
    write_text(tmp_path / 'file.png', 'old')

    def write():
        with atomic_path(tmp_path / 'file.png') as temporary:
            assert temporary.endswith('.png')
            assert os.path.dirname(temporary) == str(tmp_path)
            with open(temporary, 'w') as file:
                file.write('new')
            raise stop

    with pytest.raises(stop):
        write()
    assert (tmp_path / 'file.png').read_text() == 'old'
    assert files(tmp_path) == ['file.png']


def test_permissions_are_those_of_any_file(tmp_path):
    (tmp_path / 'plain').write_text('')
    write_text(tmp_path / 'new', 'x')
    modes = [os.stat(tmp_path / name).st_mode for name in ('plain', 'new')]
    assert modes[0] == modes[1]
    os.chmod(tmp_path / 'new', 0o640)
    write_text(tmp_path / 'new', 'y')
    assert os.stat(tmp_path / 'new').st_mode & 0o777 == 0o640


def test_names_as_long_as_the_system_allows(tmp_path):
    name = 'n' * 251 + '.pth'
    write_text(tmp_path / name, 'x')
    assert files(tmp_path) == [name]


def write_often(path, letter):
    for _ in range(20):
        write_bytes(path, letter * 100_000)


def test_two_processes_never_mix(tmp_path):
    context = multiprocessing.get_context('fork')
    writers = [
        context.Process(target=write_often, args=(tmp_path / 'file', letter))
        for letter in (b'a', b'b')
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / 'file').exists():
            content = (tmp_path / 'file').read_bytes()
            assert content in (b'a' * 100_000, b'b' * 100_000)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert files(tmp_path) == ['file']


def test_what_dead_processes_left_is_removed(tmp_path):
    child = multiprocessing.get_context('fork').Process(target=os._exit, args=(0,))
    child.start()
    child.join()
    here = socket.gethostname()[:64]
    owners = {
        'dead': (here, child.pid),
        'alive': (here, os.getppid()),
        'other': ('far.away', child.pid),
    }
    for name, (host, pid) in owners.items():
        (tmp_path / f'.{host}.{pid}.{name}{SUFFIX}.pth').write_text('x')
    (tmp_path / 'iter_1.pth').write_text('x')
    remove_unfinished(tmp_path)
    left = [
        name
        for name in owners
        if any(f'.{name}.' in f'{f}.'.replace(SUFFIX, '') for f in files(tmp_path))
    ]
    assert left == ['alive', 'other']
    assert 'iter_1.pth' in files(tmp_path)


def test_what_is_no_file_to_write_is_refused_before_and_left_alone(tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').write_text('1')
    os.mkfifo(tmp_path / 'pipe')
    for name, error in (
        ('folder', IsADirectoryError),
        ('pipe', FileExistsError),
        ('file/below', NotADirectoryError),
        ('file/below/further', NotADirectoryError),
    ):
        for write in (check_output, lambda path: write_text(path, '2')):
            with pytest.raises(error, match='give the name of a file|is a file, not a folder'):
                write(tmp_path / name)
    assert files(tmp_path) == ['file', 'folder', 'pipe']
    assert (tmp_path / 'pipe').is_fifo()
    assert check_output(tmp_path / 'new/a/b') == str(tmp_path / 'new/a/b')
    assert files(tmp_path) == ['file', 'folder', 'pipe']  # nothing is made yet


def test_a_link_stays_and_leads_to_what_is_written(tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'link').symlink_to('elsewhere/file')
    write_text(tmp_path / 'link', '1')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'elsewhere/file').read_text() == '1'


def write_with_little_room(channel, path, write):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write(path)
    except OSError as error:
        channel.send((error.errno, str(error)))


def write_folder(path):
    with atomic_folder(path) as folder, open(f'{folder}/x', 'wb', buffering=0) as file:
        file.write(bytes(1000))
        file.write(bytes(1000))


@pytest.mark.parametrize('write', [lambda path: write_bytes(path, bytes(5000)), write_folder])
def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path, write):
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(False)
    if write is not write_folder:
        (tmp_path / 'out').write_text('old')
    process = context.Process(target=write_with_little_room, args=(sender, tmp_path / 'out', write))
    process.start()
    process.join()
    number, said = receiver.recv()
    assert number == errno.EFBIG
    assert f'cannot write {tmp_path / "out"}: File too large. Make room, or write elsewhere' in said
    assert files(tmp_path) == ['out'] * (write is not write_folder)
    assert write is write_folder or (tmp_path / 'out').read_text() == 'old'


def append_long(path):
    append_text(path, 3000 * 'x')


def test_a_full_disk_appends_all_or_nothing(tmp_path):
    """The file has room for a part of the text: that would spoil the next line as well."""
    path = tmp_path / 'list.txt'
    append_text(path, 'one\n')
    append_text(path, 'b\udcff\n')
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(False)
    process = context.Process(target=write_with_little_room, args=(sender, path, append_long))
    process.start()
    process.join()
    assert receiver.recv()[0] == errno.EFBIG
    assert path.read_bytes() == b'one\nb\xff\n'


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / 'file').write_text('mine')
    check_folder(tmp_path / 'a/b')
    assert files(tmp_path) == ['file']
    for path in ('file', 'file/a', 'file/a/b'):
        for check in (check_folder, make_folder, write_folder):
            with pytest.raises(OSError, match='file is a file, not a folder|is there already'):
                check(str(tmp_path / path))
    assert (tmp_path / 'file').read_text() == 'mine'
