"""A folder of odd images, walked as a user's folder is: each ends in its documented outcome."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.datasets import open_dataset
from probe.images.reader import read_batches
from probe.images.status import Status
from tests import archives

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

READ, BAD, MISSING = Status.READ, Status.UNDECODABLE, Status.MISSING
LARGE, FORMAT = Status.TOO_LARGE, Status.FORMAT
GREY, RED, WHITE = (128, 128, 128), (255, 0, 0), (255, 255, 255)


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def plain(mode, colour, format, **options):
    return encode(Image.new(mode, (9, 7), colour), format, **options)


def animation(format, **options):
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue", "lime")]
    return encode(frames[0], format, save_all=True, append_images=frames[1:], **options)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return plain("RGB", RED, "JPEG", exif=exif)


def palette(transparency=None):
    image = Image.new("P", (9, 7), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return encode(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, colour=2):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def png_16(colour, values):
    row = b"\0" + b"".join(struct.pack(">H", v) for v in values)
    return png(1, 1, chunk(b"IDAT", zlib.compress(row)), depth=16, colour=colour)


def bmp_bomb():
    good = bytearray(plain("RGB", RED, "BMP"))
    good[18:26] = struct.pack("<ii", 50_000, 50_000)
    return bytes(good)


def gif_bomb():
    screen = struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\x02\x04\x0a\0"
    return b"GIF89a" + screen + frame + b";"


def tiff_bomb():
    good = plain("RGB", RED, "TIFF")
    place = {tag: good.index(struct.pack("<HH", tag, 4) + struct.pack("<I", 1)) for tag in (256, 257)}
    raw = bytearray(good)
    for offset in place.values():
        raw[offset + 8 : offset + 12] = struct.pack("<I", 50_000)
    return bytes(raw)


def wide_16(format):
    return encode(Image.fromarray(np.full((7, 9), 32896, np.uint16)), format)


JPEG = archives.jpeg(1, (120, 90))

# name -> bytes, status and, for pictures that are read, the colour in their middle (None: not looked at)
CASES = {
    "baseline.jpg": (plain("RGB", RED, "JPEG", quality=95), READ, RED),
    "progressive.jpg": (plain("RGB", RED, "JPEG", progressive=True, quality=95), READ, RED),
    "no-subsampling.jpg": (plain("RGB", RED, "JPEG", subsampling=0, quality=95), READ, RED),
    "grey.jpg": (plain("L", 128, "JPEG"), READ, GREY),
    "cmyk.jpg": (plain("CMYK", (0, 255, 255, 0), "JPEG", quality=95), READ, RED),
    "uppercase.JPG": (plain("RGB", RED, "JPEG", quality=95), READ, RED),
    "png-in-truth.jpg": (plain("RGB", RED, "PNG"), READ, RED),
    "jpeg-in-truth.png": (plain("RGB", RED, "JPEG", quality=95), READ, RED),
    "mpo.jpg": (
        encode(
            Image.new("RGB", (9, 7), RED),
            "MPO",
            save_all=True,
            append_images=[Image.new("RGB", (9, 7), "blue")],
            quality=95,
        ),
        READ,
        RED,
    ),
    **{f"exif-{n}.jpg": (turned(n), READ, RED) for n in range(1, 9)},
    "exif-nonsense.jpg": (plain("RGB", RED, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff"), READ, RED),
    "rgba.png": (plain("RGBA", (*RED, 255), "PNG"), READ, RED),
    "rgba-clear.png": (plain("RGBA", (9, 9, 9, 0), "PNG"), READ, WHITE),
    "grey-alpha-clear.png": (plain("LA", (9, 0), "PNG"), READ, WHITE),
    "grey-key.png": (plain("L", 9, "PNG", transparency=9), READ, WHITE),
    "rgb-key.png": (plain("RGB", RED, "PNG", transparency=RED), READ, WHITE),
    "palette.png": (palette(), READ, RED),
    "palette-key.png": (palette(1), READ, WHITE),
    "palette-alpha.png": (palette(bytes([255, 0])), READ, WHITE),
    "bilevel.png": (plain("1", 1, "PNG"), READ, WHITE),
    "grey-16.png": (wide_16("PNG"), READ, GREY),
    "rgb-16.png": (png_16(2, (65535, 0, 0)), READ, RED),
    "rgba-16.png": (png_16(6, (1, 1, 1, 0)), READ, WHITE),
    "grey-alpha-16.png": (png_16(4, (1, 0)), READ, WHITE),
    "animated.png": (animation("PNG"), READ, RED),
    "animated.gif": (animation("GIF"), READ, RED),
    "clear.gif": (plain("P", 0, "GIF", transparency=0), READ, WHITE),
    "animated.webp": (animation("WEBP", lossless=True), READ, RED),
    "clear.webp": (plain("RGBA", (9, 9, 9, 0), "WEBP", lossless=True), READ, WHITE),
    "rgb.bmp": (plain("RGB", RED, "BMP"), READ, RED),
    "grey.bmp": (plain("L", 128, "BMP"), READ, GREY),
    "bilevel.bmp": (plain("1", 1, "BMP"), READ, WHITE),
    "colour.ppm": (plain("RGB", RED, "PPM"), READ, RED),
    "words.ppm": (b"P3\n1 1\n255\n255 0 0\n", READ, RED),
    "grey-16.pgm": (wide_16("PPM"), READ, GREY),
    "bits.pbm": (plain("1", 1, "PPM"), READ, WHITE),
    "pages.tif": (animation("TIFF"), READ, RED),
    "lzw.tif": (plain("RGB", RED, "TIFF", compression="tiff_lzw"), READ, RED),
    "cmyk.tif": (plain("CMYK", (0, 255, 255, 0), "TIFF"), READ, RED),
    "rgba-clear.tif": (plain("RGBA", (9, 9, 9, 0), "TIFF"), READ, WHITE),
    "grey-16.tif": (wide_16("TIFF"), READ, GREY),
    "integer-32.tif": (plain("I", 7, "TIFF"), BAD, None),
    "float-32.tif": (plain("F", 0.5, "TIFF"), BAD, None),
    "one-pixel.png": (encode(Image.new("RGB", (1, 1), RED), "PNG"), READ, RED),
    "very-wide.png": (encode(Image.new("RGB", (3000, 1), RED), "PNG"), READ, RED),
    "trailing-junk.jpg": (plain("RGB", RED, "JPEG", quality=95) + b"junk" * 99, READ, RED),
    "empty.jpg": (b"", MISSING, None),
    "one-byte.jpg": (b"\xff", FORMAT, None),
    "header-only.jpg": (JPEG[:20], BAD, None),
    "half.jpg": (JPEG[: len(JPEG) // 2], BAD, None),
    "half.png": (encode(Image.open(io.BytesIO(JPEG)), "PNG")[:2000], BAD, None),
    "no-data.png": (png(9, 7), BAD, None),
    "zero-wide.png": (png(0, 7, chunk(b"IDAT", zlib.compress(b"\0"))), BAD, None),
    "wrong-check.png": (plain("RGB", RED, "PNG")[:-30] + bytes(18) + b"\0" * 12, BAD, None),
    "bomb.png": (png(50_000, 50_000, chunk(b"IDAT", zlib.compress(bytes(99)))), LARGE, None),
    "just-over.png": (png(10_001, 10_000, chunk(b"IDAT", zlib.compress(bytes(99)))), LARGE, None),
    "text-bomb.png": (
        png(9, 7, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))),
        BAD,
        None,
    ),
    "bomb.gif": (gif_bomb(), LARGE, None),
    "bomb.bmp": (bmp_bomb(), LARGE, None),
    "bomb.ppm": (b"P6\n50000 50000\n255\n" + bytes(99), LARGE, None),
    "bomb.tif": (tiff_bomb(), LARGE, None),
    "words.jpg": (b"these are words", FORMAT, None),
    "page.png": (b"<!DOCTYPE html><html></html>", FORMAT, None),
    "vector.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", FORMAT, None),
    "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", FORMAT, None),
    "paper.jpg": (b"%PDF-1.7\n", FORMAT, None),
    "archive.jpg": (b"PK\3\4" + bytes(40), FORMAT, None),
    "icon.png": (plain("RGB", RED, "ICO"), FORMAT, None),
    "jpeg2000.jpg": (b"\0\0\0\x0cjP  \r\n\x87\n", FORMAT, None),
    "film.gif": (b"\0\0\0\x18ftypmp42", FORMAT, None),
    "sound.webp": (b"RIFF\x24\0\0\0WAVEfmt ", FORMAT, None),
    "pickle.png": (b"\x80\x04\x95", FORMAT, None),
}


def test_there_are_enough_of_them():
    assert len(CASES) >= 60


def test_every_odd_image_ends_as_documented(tmp_path):
    root = archives.write_files(
        tmp_path / "odd" / "set", {f"class/{name}": case[0] for name, case in CASES.items()}
    )
    before = sorted(tmp_path.rglob("*"))
    dataset = open_dataset(str(root), Home(tmp_path / "home"))
    assert len(dataset) == len(CASES)
    outcome, colours, count = {}, {}, 0
    for batch in read_batches(dataset.source.read, range(len(dataset)), 5, 16):
        for place, row in enumerate(batch.rows.tolist()):
            name = str(dataset.ids[row]).removeprefix("class/")
            outcome[name] = batch.problems.get(row, (READ, ""))[0]
            colours[name] = batch.pixels[place, 2, 2].astype(int)
        count += batch.turned
    assert outcome == {name: status for name, (_, status, _) in CASES.items()}
    for name, (_, status, colour) in CASES.items():
        if status == READ and colour is not None:
            assert np.abs(colours[name] - colour).max() <= 3, name
    assert count == 7
    assert [
        place for place in sorted(tmp_path.rglob("*")) if tmp_path / "home" not in (place, *place.parents)
    ] == before


def test_reasons_are_the_same_every_time(tmp_path):
    files = {f"class/{name}": case[0] for name, case in CASES.items() if case[1] != READ}
    dataset = open_dataset(str(archives.write_files(tmp_path / "set", files)), Home(tmp_path / "home"))
    runs = []
    for _ in range(2):
        problems = {}
        for batch in read_batches(dataset.source.read, range(len(dataset)), 5, 8):
            problems |= batch.problems
        runs.append(problems)
    assert runs[0] == runs[1]
    assert len(runs[0]) == len(files)
    assert all(reason and "0x" not in reason for _, reason in runs[0].values())
