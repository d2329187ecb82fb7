"""Image files as they are found on real disks: those that cannot be used, and odd ones that can."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def picture(width: int = 60, height: int = 50) -> Image.Image:
    """Smooth colours with a little noise, RGB."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([4 * x, 5 * y, 255 - 4 * x], axis=-1)
    pixels = pixels + np.random.default_rng(0).integers(-8, 8, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(form: str, **options) -> bytes:
    file = io.BytesIO()
    picture().save(file, form, **options)
    return file.getvalue()


def half(form: str):
    return lambda path: path.write_bytes(encoded(form)[: len(encoded(form)) // 2])


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds one line."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    line = zlib.compress(bytes(3 * width + 1))
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', line) + chunk(b'IEND', b'')
    )


def progressive_jpeg_of(width: int, height: int) -> bytes:
    """A progressive JPEG that says it is so large."""
    data = encoded('JPEG', progressive=True)
    at = data.index(b'\xff\xc2') + 5  # the frame header: marker, length, bits, height, width
    return data[:at] + struct.pack('>HH', height, width) + data[at + 4 :]


# Name of the kind: file name, how to write it, how the reason begins.
UNUSABLE = {
    'truncated jpeg': ('a.jpg', half('JPEG'), 'damaged: '),
    'truncated png': ('a.png', half('PNG'), 'damaged: '),
    'truncated webp': ('a.webp', half('WEBP'), 'damaged: '),
    'truncated bmp': ('a.bmp', half('BMP'), 'damaged: '),
    'truncated tiff': ('a.tif', half('TIFF'), 'damaged: '),
    'zero bytes': ('a.jpg', Path.touch, 'empty file'),
    'zeros': ('a.jpg', lambda p: p.write_bytes(bytes(5000)), 'not an image'),
    'text': ('a.jpg', lambda p: p.write_text('<html>404 not found</html>'), 'not an image'),
    'not finite': (
        'a.tiff',
        lambda p: Image.fromarray(np.full((50, 60), np.nan, np.float32)).save(p),
        'damaged: pixels that are not finite',
    ),
    'one pixel': ('a.png', picture(1, 1).save, 'too small: 1 x 1 pixels'),
    'thin': ('a.png', picture(100, 15).save, 'too small: 100 x 15 pixels'),
    'huge png': ('a.png', lambda p: p.write_bytes(png_of(9000, 9000)), 'too large: 9000 x 9000'),
    'bomb': ('a.png', lambda p: p.write_bytes(png_of(20000, 20000)), 'too large: '),
    'progressive bomb': (
        'a.jpg',
        lambda p: p.write_bytes(progressive_jpeg_of(20000, 20000)),
        'too large: 20000 x 20000',
    ),
    'folder': ('a.jpg', Path.mkdir, 'not readable: Is a directory'),
    'vanished': ('a.jpg', lambda p: None, 'not readable: No such file'),
    'dead link': (
        'a.jpg',
        lambda p: p.symlink_to(p.parent / 'gone'),
        'not readable: No such file',
    ),
    'link to itself': (
        'a.jpg',
        lambda p: os.symlink(p.name, p),
        'not readable: Too many levels of symbolic links',
    ),
}

# Name of the kind: file name, how to write it.
USABLE = {
    'cmyk': ('a.jpg', lambda p: picture().convert('CMYK').save(p)),
    '16 bits': (
        'a.png',
        lambda p: Image.fromarray(np.arange(3000, dtype=np.uint16).reshape(50, 60)).save(p),
    ),
    'animated webp': (
        'a.webp',
        lambda p: picture().save(p, save_all=True, append_images=[Image.new('RGB', (60, 50))]),
    ),
    'animated png': (
        'a.png',
        lambda p: picture().save(p, save_all=True, append_images=[Image.new('RGB', (60, 50))]),
    ),
    'png named jpg': ('a.jpg', lambda p: p.write_bytes(encoded('PNG'))),
    'smallest': ('a.png', picture(16, 16).save),
    'progressive': ('a.jpg', lambda p: picture().save(p, progressive=True)),
    'bytes after the end': ('a.jpg', lambda p: p.write_bytes(encoded('JPEG') + b'trailer' * 99)),
}
