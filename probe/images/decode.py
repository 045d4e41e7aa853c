"""The one pixel path: encoded bytes or an array to RGB, and RGB to the size a network wants.

Everything goes through Pillow: libjpeg's accurate integer DCT, Pillow's antialiased bilinear resize, the
aspect ratio not kept. What odd images become:

* grey is repeated to three channels; 16-bit grey is scaled to 8 bits, ``(v + 128) // 257``, not clamped;
  16-bit colour loses its low byte; 32-bit integer and floating-point pixels have no defined range: refused;
* palettes are looked up; CMYK is converted by Pillow's plain formula, without colour profiles;
* transparency is composited over white; of animations and multi-page files the first picture is taken;
* EXIF orientation is ignored unless asked for. TIFF's own orientation tag is part of that format, and is
  always applied;
* truncated files are an error, never half a picture.

A large JPEG is decoded at a fraction where the `PixelPath` says so: libjpeg then computes fewer pixels of
each block of 8 × 8.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from probe.errors import ProbeError
from probe.hashing import RawImage
from probe.images.budget import DECODING, SMALL_BYTES, bytes_of
from probe.images.path import SCALED_FROM, SCALED_LEAVES, PixelPath
from probe.images.status import Status
from probe.jpeg import excess, jpeg_side

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Formats that are decoded; Pillow's other parsers never see a byte."""

MAX_PIXELS = 100_000_000

# First bytes of the allowed formats: tells a damaged picture from a file that is none.
_MAGIC = (
    *(b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"P%d" % digit for digit in range(1, 8)),
)

_ORIENTATION = 0x0112
_EXIF_ERRORS = (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, struct.error)

# Pillow warns above this and refuses above twice as much, also for the frames inside a file.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# What is wrong with an image is in its status; remarks on its metadata would break into progress bars.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(ProbeError):
    """One image that cannot be used. `status` is the code kept in the store, `reason` one clause."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(f"the image cannot be used: {reason}")
        self.status = status
        self.reason = reason


def decode(raw: RawImage, *, exif: bool = False) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) uint8 of an encoded file, or of an array (H, W), (H, W, 1) or (H, W, 3) uint8.

    Raises ImageError. With `exif` the orientation an EXIF block asks for is applied.
    """
    with _opened(raw, exif, None) as (image, _):
        return np.array(image.convert("RGB"))


def decode_to(raw: RawImage, size: int, path: PixelPath) -> tuple[NDArray[np.uint8], bool]:
    """(size, size, 3) uint8 of a picture, and whether EXIF asks for another orientation.

    Raises ImageError.
    """
    with _opened(raw, path.exif, size if path.scaled else None) as (image, turned):
        return _fit(image, size), turned


def thumbnail(raw: RawImage, side: int, *, exif: bool = False) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a picture in its own proportions, its longer side at most `side` pixels.

    For eyes alone: a large JPEG is decoded at the smallest fraction that serves. Raises ImageError.
    """
    with _opened(raw, exif, None, (side, side)) as (image, _):
        image.thumbnail((side, side), Image.Resampling.BILINEAR)
        return np.array(image.convert("RGB"))


def resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) uint8 -> (size, size, 3) uint8: antialiased bilinear, stretched to the square."""
    return _fit(_from_array(pixels), size)


@contextmanager
def _opened(
    raw: RawImage, exif: bool, scaled_to: int | None, least: tuple[int, int] | None = None
) -> Iterator[tuple[Image.Image, bool]]:
    """The picture in Pillow's mode L or RGB, and whether EXIF asks for another orientation.

    With `scaled_to`, a JPEG that is large enough is decoded at a fraction and comes resized to this side;
    with `least` at the smallest fraction that leaves so much. Large pictures are in the hands of few threads
    at a time. Raises ImageError.
    """
    if not isinstance(raw, bytes):
        yield _from_array(raw), False
        return
    image = _open(raw)
    needed = bytes_of(image)
    with DECODING.hold(needed) if needed > SMALL_BYTES else nullcontext():
        yield _decoded(image, raw, exif, scaled_to, least)


def _decoded(
    image: Image.Image, raw: bytes, exif: bool, scaled_to: int | None, least: tuple[int, int] | None
) -> tuple[Image.Image, bool]:
    turned = _orientation(image) > 1
    try:
        if scaled_to is not None and jpeg_side(raw) >= SCALED_FROM * scaled_to:
            image = _load_scaled(image, scaled_to)
        elif least is not None:
            image.draft(None, least)
        image.load()
        if turned and exif:
            image = ImageOps.exif_transpose(image)
        return _to_grey_or_rgb(image), turned
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(Status.TOO_LARGE, str(error)) from error
    except Exception as error:
        # A damaged file can make a parser raise anything; whatever it is, the image cannot be decoded.
        raise ImageError(Status.UNDECODABLE, _clause(error)) from error


def _load_scaled(image: Image.Image, size: int) -> Image.Image:
    """Decode a JPEG at the smallest fraction that leaves enough for `size`, and resize it to the square."""
    least = SCALED_LEAVES * size
    drafted = image.draft(None, (least, least))
    # A side that the fraction does not divide is rounded up; what is beyond the picture is left out here,
    # before it is turned.
    box = drafted[1] if drafted is not None else None
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def _fit(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """A picture of mode L or RGB -> (size, size, 3) uint8. Grey is resized before it is repeated."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _open(raw: bytes) -> Image.Image:
    """Read the header only; the dimensions are checked before a pixel is decoded."""
    if not raw:
        raise ImageError(Status.UNDECODABLE, "the file is empty")
    if not (raw.startswith(_MAGIC) or (raw.startswith(b"RIFF") and raw[8:12] == b"WEBP")):
        raise ImageError(Status.FORMAT, "not a " + ", ".join(FORMATS) + " file")
    wrong = excess(raw)
    if wrong is not None:
        raise ImageError(Status.TOO_LARGE, wrong)
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(Status.TOO_LARGE, str(error)) from error
    except Exception as error:
        raise ImageError(Status.UNDECODABLE, _clause(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            Status.TOO_LARGE, f"{image.width}×{image.height} pixels, over the limit of {MAX_PIXELS:,}"
        )
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or where it cannot be read."""
    if "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _EXIF_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageError(Status.UNDECODABLE, f"pixels of mode {image.mode} (32 bits) have no defined range")
    if image.has_transparency_data:
        return _over_white(image)
    return image.convert("L" if image.mode == "1" else "RGB")


def _over_white(image: Image.Image) -> Image.Image:
    colour = image.convert("RGBA")
    canvas = Image.new("RGBA", colour.size, "white")
    canvas.alpha_composite(colour)
    return canvas.convert("RGB")


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise ImageError(Status.UNDECODABLE, f"pixels are {pixels.dtype}, expected uint8")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ImageError(Status.UNDECODABLE, f"shape {pixels.shape}, expected (H, W), (H, W, 1) or (H, W, 3)")
    if pixels.size == 0:
        raise ImageError(Status.UNDECODABLE, f"shape {pixels.shape} holds no pixel")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise ImageError(Status.TOO_LARGE, f"{pixels.shape[1]}×{pixels.shape[0]} pixels, over {MAX_PIXELS:,}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _clause(error: Exception) -> str:
    """A Pillow message without the address of a buffer in it: the same file, the same reason."""
    text = str(error).strip()
    if not text or "BytesIO" in text:
        return "damaged file"
    return text[:200]
