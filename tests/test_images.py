"""Pixels in, tensors out: odd images have one outcome each, batches keep their order and their shape."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from probe.hashing import content_hash
from probe.images.decode import MAX_PIXELS, ImageError, decode, resize
from probe.images.reader import read_batches
from probe.images.status import Status

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(seed=0, size=(40, 30)):
    """A smooth picture with some noise: compresses like a photograph."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(pixels + rng.integers(-9, 9, pixels.shape), 0, 255).astype(np.uint8))


def problem(raw):
    with pytest.raises(ImageError) as caught:
        decode(raw)
    assert caught.value.reason
    return caught.value.status


def bomb_png(width, height):
    """A PNG header that claims an enormous picture."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 10)
    parts = (body, data, b"IEND")
    chunks = [struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "PPM": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_give_back_their_pixels(format):
    image = photo()
    np.testing.assert_array_equal(decode(encode(image, format, **LOSSLESS[format])), np.asarray(image))


def test_jpeg_is_what_pillow_decodes_without_shortcuts():
    raw = encode(photo(size=(640, 480)), "JPEG", quality=90)
    with Image.open(io.BytesIO(raw)) as image:
        np.testing.assert_array_equal(decode(raw), np.asarray(image))


def test_grey_of_16_bits_is_scaled_not_clamped():
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    for format in ("PNG", "TIFF"):
        pixels = decode(encode(Image.fromarray(values), format))
        assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]
        assert (pixels == pixels[:, :, :1]).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused(mode):
    assert problem(encode(Image.new(mode, (4, 4), 7), "TIFF")) == Status.UNDECODABLE


def test_transparency_is_composited_over_white():
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (100, 0, 0, 128))
    assert decode(encode(clear))[0].tolist()[0] == [255, 255, 255]
    assert decode(encode(clear))[0, 1] == pytest.approx([177, 127, 127], abs=1)
    assert decode(encode(Image.new("LA", (1, 1), (0, 0))))[0, 0].tolist() == [255, 255, 255]


def test_palette_and_its_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decode(encode(image))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert decode(encode(image, "PNG", transparency=0))[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_bilevel_and_cmyk():
    assert decode(encode(Image.new("1", (1, 1), 1)))[0, 0].tolist() == [255, 255, 255]
    raw = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert decode(raw)[4, 4] == pytest.approx([255, 0, 0], abs=4)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_picture_of_several(format):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if format == "WEBP" else {}
    raw = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert decode(raw)[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_ignored_unless_asked():
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encode(photo(size=(40, 30)), "JPEG", exif=exif)
    assert decode(raw).shape == (30, 40, 3)
    assert decode(raw, exif=True).shape == (40, 30, 3)
    batch = next(read_batches(lambda row: raw, [0, 1], 8, 2))
    assert batch.turned == 2


def test_broken_exif_does_not_cost_the_image():
    raw = encode(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert decode(raw, exif=True).shape == (30, 40, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_file_is_an_error(format, kept):
    raw = encode(photo(size=(160, 120)), format)
    assert problem(raw[: int(len(raw) * kept)]) == Status.UNDECODABLE


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_damaged_bytes_are_decoded_or_refused_never_anything_else(format):
    raw = encode(photo(size=(64, 48)), format)
    rng = np.random.default_rng(1)
    for _ in range(40):
        damaged = bytearray(raw)
        for place in rng.integers(0, min(len(raw), 400), 4):
            damaged[place] = int(rng.integers(256))
        try:
            pixels = decode(bytes(damaged))
        except ImageError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


def test_files_that_are_no_images():
    assert problem(b"") == Status.UNDECODABLE
    assert problem(b"these are words\n" * 20) == Status.FORMAT
    assert problem(b"%!PS-Adobe-3.0 EPSF-3.0\n") == Status.FORMAT
    assert problem(b"RIFF\x10\0\0\0WAVEfmt ") == Status.FORMAT
    assert problem(b"\xff\xd8\xff\xe0 not really") == Status.UNDECODABLE


def test_a_bomb_is_refused_by_its_header():
    side = int(MAX_PIXELS**0.5)
    for width, height in ((side + 1, side + 1), (60_000, 60_000)):
        assert problem(bomb_png(width, height)) == Status.TOO_LARGE


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_of_another_kind_are_refused(array):
    assert problem(array) == Status.UNDECODABLE


def test_grey_arrays_become_rgb():
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    for array in (grey, grey[:, :, None]):
        np.testing.assert_array_equal(decode(array), np.repeat(grey[:, :, None], 3, axis=2))


def test_resize_antialiases_and_stretches():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = resize(stripes, 8)
    assert small.shape == (8, 8, 3)
    assert np.abs(small[:, 1:-1].astype(int) - 127).max() <= 2
    assert resize(np.asarray(photo(size=(90, 30))), 16).shape == (16, 16, 3)


def test_hash_of_arrays_covers_shape_and_values():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert content_hash(grey) == content_hash(grey[:, :, None])
    assert content_hash(grey) != content_hash(grey.reshape(4, 3))
    assert content_hash(grey[:, ::2]) == content_hash(grey[:, ::2].copy())
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def mixed(row):
    """What a folder may hold: two good pictures, then five that are not."""
    if row == 4:
        raise FileNotFoundError(2, "No such file or directory")
    words = b"words"
    return [encode(photo(0), "JPEG"), encode(photo(1)), words, b"", None, bomb_png(20_000, 20_000), words][
        row
    ]


def test_batches_keep_order_and_shape_and_list_the_unreadable():
    batches = list(read_batches(mixed, [5, 0, 4, 1, 3, 2], 12, 4, threads=2))
    assert [batch.rows.tolist() for batch in batches] == [[5, 0, 4, 1], [3, 2]]
    assert all(batch.pixels.shape == (4, 12, 12, 3) and batch.pixels.dtype == np.uint8 for batch in batches)
    assert {row: status for batch in batches for row, (status, _) in batch.problems.items()} == {
        5: Status.TOO_LARGE,
        4: Status.MISSING,
        3: Status.UNDECODABLE,
        2: Status.FORMAT,
    }
    np.testing.assert_array_equal(batches[0].pixels[1], resize(decode(mixed(0)), 12))
    np.testing.assert_array_equal(batches[0].pixels[3], resize(decode(mixed(1)), 12))
    assert not batches[0].pixels[[0, 2]].any()
    assert not batches[1].pixels.any()
    assert batches[1].count == 2


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_pixels_do_not_depend_on_threads_or_batches(threads, batch_size):
    arrays = np.random.default_rng(0).integers(0, 256, (50, 9, 11), dtype=np.uint8)
    rows = np.arange(50)[::-1]
    batches = read_batches(lambda row: arrays[row], rows, 8, batch_size, threads=threads)
    pixels = np.concatenate([batch.pixels[: batch.count] for batch in batches])
    np.testing.assert_array_equal(pixels, np.stack([resize(arrays[row], 8) for row in rows]))


def test_content_that_changed_since_it_was_indexed_is_not_read():
    files = [encode(photo(seed)) for seed in range(3)]
    hashes = [content_hash(raw) for raw in files]
    files[1] = encode(photo(9))
    batch = next(read_batches(lambda row: files[row], range(3), 8, 4, hashes=hashes))
    assert {row: status for row, (status, _) in batch.problems.items()} == {1: Status.CHANGED}


def test_no_rows_no_batches():
    assert list(read_batches(mixed, [], 8, 4)) == []


def test_reading_ahead_is_bounded_and_closing_stops_the_threads():
    asked = []

    def read(row):
        asked.append(row)
        return np.zeros((4, 4), np.uint8)

    batches = read_batches(read, range(10_000), 4, 10, threads=2)
    next(batches)
    batches.close()
    assert len(asked) <= 30
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_bug_in_the_source_is_not_taken_for_an_unreadable_image():
    def read(row):
        raise KeyError(row)

    with pytest.raises(KeyError):
        list(read_batches(read, [0], 4, 1))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
