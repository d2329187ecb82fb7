"""What a file says beside its pixels: read where it can be, left out where it stops a decoder."""

import re
import struct
import zlib
from collections.abc import Callable
from typing import Optional

ORIENTATION = 0x0112
# struct's letters of the kinds of integers that writers use for it.
INTEGERS = {1: 'B', 3: 'H', 4: 'L', 6: 'b', 8: 'h', 9: 'l'}
XMP_ORIENTATION = re.compile(rb'tiff:Orientation\s*(?:=\s*["\']|>)\s*([1-8])')
# Bytes of a text chunk that is looked at; it may be packed a thousandfold.
MAX_TEXT = 2**20

# What a decoder needs of a JPEG: frames, tables and scans. Of APP0 and APP14 it takes the colours.
JPEG_NEEDED = {*range(0xC0, 0xD0), *range(0xDA, 0xE0)} - {0xC8}
JPEG_ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # markers without a length
PNG_NEEDED = (b'IHDR', b'PLTE', b'IDAT', b'IEND')
PNG_TRANSPARENCY = {0: (2,), 2: (6,), 3: range(1, 257)}  # colour type: bytes of tRNS
WEBP_NEEDED = (b'ANIM', b'ANMF', b'ALPH', b'VP8 ', b'VP8L')
WEBP_FLAGS = 0x2C  # of VP8X: there is ICC, EXIF, XMP
# Tags without which a TIFF's pixels cannot be read, or mean something else.
TIFF_NEEDED = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 338, 339, 347, *range(512, 522), 529, 530, 531, 532),
}

Split = tuple[bytes, dict]


def pixels_only(data: bytes) -> Optional[Split]:
    """A file with nothing but what its pixels need.

    Args:
        data (bytes): An image file.

    Returns:
        tuple, optional: The smaller file, and ``exif`` and ``xmp`` (bytes) of the old one as far as it
        has them, for :func:`orientation_of`. None for formats other than JPEG, PNG, WebP and TIFF.
    """
    for start, split in SPLITTERS.items():
        if data.startswith(start):
            try:
                return split(data)
            except (struct.error, IndexError):  # it ends amid a header
                return None
    return None


def orientation_of(info: dict) -> int:
    """How a picture has to be turned, from EXIF, else XMP. Whatever else they hold may be broken.

    Args:
        info (dict): ``info`` of a Pillow image, or of :func:`pixels_only`.

    Returns:
        int: EXIF's Orientation, 1 (upright) to 8; 1 where it cannot be read.
    """
    raw = info.get('Raw profile type exif')
    exif = info.get('exif') or (from_raw_profile(raw) if isinstance(raw, str) else b'')
    xmp = info.get('xmp') or info.get('XML:com.adobe.xmp') or b''
    if isinstance(xmp, str):
        xmp = xmp.encode(errors='replace')
    found = isinstance(exif, bytes) and orientation_of_exif(exif)
    if not found and isinstance(xmp, bytes):
        match = XMP_ORIENTATION.search(xmp)
        found = match and int(match[1])
    return found or 1


def orientation_of_exif(exif: bytes) -> Optional[int]:
    """Orientation of an EXIF block, which is a small TIFF; no other entry is looked at."""
    while exif.startswith(b'Exif\0\0'):
        exif = exif[6:]
    order = {b'II': '<', b'MM': '>'}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f'{order}L', exif, 4)
        (count,) = struct.unpack_from(f'{order}H', exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f'{order}HH', exif, at)
            if tag == ORIENTATION and kind in INTEGERS:
                (value,) = struct.unpack_from(order + INTEGERS[kind], exif, at + 8)
                if 1 <= value <= 8:
                    return value
    except struct.error:  # it ends too early
        pass
    return None


def from_raw_profile(text: str) -> bytes:
    """EXIF from the text that ImageMagick writes into PNG: name, length and hexadecimal digits."""
    try:
        return bytes.fromhex(''.join(text.split('\n')[3:]))
    except ValueError:
        return b''


def split_jpeg(data: bytes) -> Split:
    """Leave out comments and application segments; from the first scan on all is kept."""
    kept, info, at = [data[:2]], {}, 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:  # stray or fill bytes
            at += 1
            continue
        if marker in JPEG_ALONE:
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            kept.append(data[at:])
            break
        (length,) = struct.unpack_from('>H', data, at + 2)
        body, end = data[at + 4 : at + 2 + length], at + 2 + max(length, 2)
        jfif = marker == 0xE0 and body.startswith(b'JFIF\0') and len(body) >= 14
        adobe = marker == 0xEE and body.startswith(b'Adobe') and len(body) >= 12
        if marker in JPEG_NEEDED or jfif or adobe:
            kept.append(data[at:end])
        elif marker == 0xE1 and body.startswith(b'Exif\0\0'):
            info.setdefault('exif', body)
        elif marker == 0xE1 and body.startswith(b'http://ns.adobe.com/xap/'):
            info.setdefault('xmp', body)
        at = end
    return b''.join(kept), info


def split_png(data: bytes) -> Split:
    """Leave out all chunks that a decoder may ignore, but transparency that is whole."""
    kept, info, at = [data[:8]], {}, 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from('>L4s', data, at)
        body, chunk = data[at + 8 : at + 8 + length], data[at : at + 12 + length]
        if kind in PNG_NEEDED:
            kept.append(chunk)
        elif kind == b'tRNS':
            whole = chunk[-4:] == struct.pack('>L', zlib.crc32(kind + body))
            if whole and length in PNG_TRANSPARENCY.get(data[25], ()):
                kept.append(chunk)
        elif kind == b'eXIf':
            info.setdefault('exif', body)
        elif kind in (b'tEXt', b'zTXt', b'iTXt'):
            read_text(kind, body, info)
        at += 12 + length
    return b''.join(kept), info


def read_text(kind: bytes, body: bytes, info: dict) -> None:
    """Take EXIF and XMP from a text chunk of a PNG."""
    name, _, text = body.partition(b'\0')
    if name not in (b'Raw profile type exif', b'XML:com.adobe.xmp'):
        return
    if kind == b'zTXt':
        try:
            text = zlib.decompressobj().decompress(text[1:], MAX_TEXT)
        except zlib.error:
            return
    if name == b'XML:com.adobe.xmp':
        info.setdefault('xmp', text)
    else:
        info.setdefault('exif', from_raw_profile(text.decode('latin-1')))


def split_webp(data: bytes) -> Split:
    """Leave out profile, EXIF and XMP, and what nobody knows."""
    kept, info, at = [], {}, 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from('<4sL', data, at)
        chunk = data[at : at + 8 + length + length % 2]
        if kind == b'VP8X':
            kept.append(chunk[:8] + bytes([chunk[8] & ~WEBP_FLAGS]) + chunk[9:])
        elif kind in WEBP_NEEDED:
            kept.append(chunk)
        elif kind in (b'EXIF', b'XMP '):
            info.setdefault(kind.decode().strip().lower(), data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    content = b''.join(kept)
    return b'RIFF' + struct.pack('<L', 4 + len(content)) + b'WEBP' + content, info


def split_tiff(data: bytes) -> Split:
    """Give a TIFF a new directory, of its first page, with the tags that its pixels need."""
    order = '<' if data[:2] == b'II' else '>'
    entries = read_directory(data)
    kept = [data[at : at + 12] for tag, at in entries.items() if tag in TIFF_NEEDED]
    data += bytes(len(data) % 2)
    directory = struct.pack(f'{order}H', len(kept)) + b''.join(kept) + bytes(4)
    smaller = data[:4] + struct.pack(f'{order}L', len(data)) + data[8:] + directory
    return smaller, dict(exif=data)


def read_directory(data: bytes) -> dict[int, int]:
    """Where a TIFF's first directory has its tags: tag to the place of its entry of 12 bytes."""
    order = '<' if data[:2] == b'II' else '>'
    (start,) = struct.unpack_from(f'{order}L', data, 4)
    (count,) = struct.unpack_from(f'{order}H', data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    return {struct.unpack_from(f'{order}H', data, at)[0]: at for at in places}


SPLITTERS: dict[bytes, Callable[[bytes], Split]] = {
    b'\xff\xd8\xff': split_jpeg,
    b'\x89PNG\r\n\x1a\n': split_png,
    b'RIFF': split_webp,
    b'II*\0': split_tiff,
    b'MM\0*': split_tiff,
}
