"""Random views of a picture: one definition for stored views, fine-tuning and baselines.

The meaning of the numbers is that of Keras's old ``ImageDataGenerator``, which the studies used:

* ``flip``            mirrors left and right in half of the views;
* ``zoom=z``          draws the factor of each axis independently from [1−z, 1+z]; above 1 shows more
  than the picture, so that it looks smaller;
* ``rotate=r``        degrees, from [−r, r];
* ``shear=s``         **degrees**, from [−s, s]: ``shear=0.2`` is next to nothing;
* ``shift=f``         fraction of the side, each axis independently from [−f, f];
* ``brightness=b``    multiplies the pixels by a factor from [1−b, 1+b];
* ``fill=nearest``    what lies outside the picture: ``nearest`` (the edge), ``reflect``, ``constant`` (0).

``zoom`` and ``brightness`` also take a range, ``zoom=0.7:1.3``.

What is drawn for a picture depends on its own seed and nothing else, so batches, shards and resumed runs
see the same views.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

FILLS = ("nearest", "reflect", "constant")

PRESETS: dict[str, str] = {
    "none": "",
    "flipzoom": "flip,zoom=0.2",
    "shear": "rotate=45,shear=0.2,fill=reflect",
    "allaug": "flip,zoom=0.2,rotate=45,shear=0.2,fill=reflect",
    "cifar10-exp7": "flip,rotate=40,shear=0.2,shift=0.1,fill=nearest",
    "cifar10-exp8b": "flip,rotate=20,shift=0.1",
    "cub200-b": "flip,zoom=0.7:1.3,rotate=100",
    "pathmnist": "flip,zoom=0.3,rotate=50",
    "dogs-vs-cats": "flip,zoom=0.2,rotate=40,shear=0.2,shift=0.2",
}
"""Augmentations of the studies by name, each a specification `parse_augment` reads."""

_EXPECTED = "flip, zoom=0.2, rotate=15, shear=0.2, shift=0.1, brightness=0.2 or fill=nearest, or a preset: "

Range = tuple[float, float]


@dataclass(frozen=True)
class Augment:
    """The ranges that views are drawn from; the default changes nothing.

    Attributes
    ----------
    flip : mirror left and right with probability one half.
    zoom, brightness : lowest and highest factor.
    rotate, shear : largest angle either way, degrees.
    shift : largest shift either way, fraction of the side.
    fill : ``nearest``, ``reflect`` or ``constant``.
    """

    flip: bool = False
    zoom: Range = (1.0, 1.0)
    rotate: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    brightness: Range = (1.0, 1.0)
    fill: str = "nearest"

    @property
    def changes_pixels(self) -> bool:
        """False when every view is the plain picture."""
        return self != Augment(fill=self.fill)

    def key_part(self) -> dict[str, Any]:
        """The ranges as plain JSON values; part of a store's key."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def parse_augment(text: str) -> Augment:
    """Read ``flip,zoom=0.2,rotate=15,fill=reflect``, or the name of a preset; ``+`` also separates.

    Raises UsageError for an item, a number or a fill mode that is not known.
    """
    parts = [part.strip() for part in PRESETS.get(text.strip(), text).replace("+", ",").split(",")]
    fields: dict[str, Any] = {}
    for part in filter(None, parts):
        name, separator, value = part.partition("=")
        if name in fields:
            raise _unreadable(text, part, f"{name} is said twice")
        fields[name] = _read_item(text, part, name, value if separator else None)
    return Augment(**fields)


def _read_item(text: str, part: str, name: str, value: str | None) -> Any:
    if name == "flip" and value is None:
        return True
    if name == "fill" and value in FILLS:
        return value
    try:
        if name in ("zoom", "brightness"):
            return _factor_range(value or "", above_zero=name == "zoom")
        if name in ("rotate", "shear", "shift"):
            return _number(value or "", highest=1.0 if name == "shift" else 180.0)
    except ValueError as error:
        raise _unreadable(text, part, str(error)) from None
    raise _unreadable(
        text, part, "it is not an augmentation" if name != "fill" else f"fill is one of {FILLS}"
    )


def _number(value: str, highest: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not 0 <= number <= highest:
        raise ValueError(f"{value} is not between 0 and {highest:g}")
    return number


def _factor_range(value: str, *, above_zero: bool) -> Range:
    low, separator, high = value.partition(":")
    if separator:
        lowest, largest = _number(low, 10.0), _number(high, 10.0)
    else:
        spread = _number(value, 1.0)
        # Rounded so that 1 - 0.7 and a written 0.3 are one value, and one store key.
        lowest, largest = round(1 - spread, 12), round(1 + spread, 12)
    if lowest > largest:
        raise ValueError(f"{value} runs backwards")
    if above_zero and lowest == 0:
        raise ValueError("a zoom of 0 leaves no picture")
    return lowest, largest


def _unreadable(text: str, part: str, why: str) -> UsageError:
    return UsageError(
        f"cannot read {part!r} in the augmentation {text!r}: {why}", expected=_EXPECTED + ", ".join(PRESETS)
    )


# ---- seeds and draws -------------------------------------------------------------------------------------

Seeds = NDArray[np.uint64]


def view_seed(seed: int, content_hash: str, view: int) -> int:
    """The 64-bit seed of view `view` of the picture with this content hash."""
    digest = hashlib.sha256(f"{seed}:{content_hash}:{view}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def row_seeds(seed: int, epoch: int, rows: NDArray[np.integer[Any]]) -> Seeds:
    """(B,) seeds of `rows` in one epoch of training, where a row number stands for its picture."""
    start = np.uint64(view_seed(seed, "epoch", epoch))
    return _mix(start + _mix(rows.astype(np.uint64) + np.uint64(1)))


def _mix(values: Seeds) -> Seeds:
    """The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), elementwise."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _uniform(seeds: Seeds, draw: int, low: float, high: float) -> NDArray[np.float64]:
    """(B,) draw number `draw` of every seed, uniform in [low, high).

    SplitMix64 written out, because it gives draw k of any seed without a generator object for each picture
    and cannot change with a version of numpy: views are part of a store's identity.
    """
    step = np.uint64((draw + 1) * 0x9E3779B97F4A7C15 % 2**64)
    unit = (_mix(seeds + step) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return low + (high - low) * unit


PARAMETERS = 7
"""Numbers that describe a view: a 2×2 matrix by rows, a shift (x, y) in sides, a brightness factor."""


def draw(augment: Augment, seeds: Seeds) -> NDArray[np.float32]:
    """(B,) seeds -> (B, 7) parameters of one view each, for `transform_pixels`."""
    seeds = np.asarray(seeds, dtype=np.uint64)
    low, high = augment.zoom
    return view_parameters(
        flip=(_uniform(seeds, 0, 0, 1) < 0.5) & augment.flip,
        rotate=_uniform(seeds, 1, -augment.rotate, augment.rotate),
        shift_x=_uniform(seeds, 2, -augment.shift, augment.shift),
        shift_y=_uniform(seeds, 3, -augment.shift, augment.shift),
        shear=_uniform(seeds, 4, -augment.shear, augment.shear),
        zoom_x=_uniform(seeds, 5, low, high),
        zoom_y=_uniform(seeds, 6, low, high),
        brightness=_uniform(seeds, 7, *augment.brightness),
    )


def view_parameters(
    *,
    flip: Any = False,
    rotate: Any = 0.0,
    shift_x: Any = 0.0,
    shift_y: Any = 0.0,
    shear: Any = 0.0,
    zoom_x: Any = 1.0,
    zoom_y: Any = 1.0,
    brightness: Any = 1.0,
) -> NDArray[np.float32]:
    """(B, 7) parameters of views that are known: scalars or (B,) arrays.

    The picture is sampled at rotation · shift · shear · zoom of the output position, in that order and about
    its centre, and mirrored last. A positive `rotate` (degrees) turns the picture clockwise; shifts are
    fractions of the side, `shear` is in degrees.
    """
    flip, rotate, shift_x, shift_y, shear, zoom_x, zoom_y, brightness = np.broadcast_arrays(
        *np.atleast_1d(flip, rotate, shift_x, shift_y, shear, zoom_x, zoom_y, brightness)
    )
    cos, sin = np.cos(np.deg2rad(rotate)), np.sin(np.deg2rad(rotate))
    zero = np.zeros_like(cos)
    rotation = _matrix(cos, sin, -sin, cos)
    shearing = _matrix(np.cos(np.deg2rad(shear)), zero, -np.sin(np.deg2rad(shear)), zero + 1)
    zooming = _matrix(zoom_x, zero, zero, zoom_y)
    mirror = _matrix(np.where(flip, -1.0, 1.0), zero, zero, zero + 1)
    linear = rotation @ shearing @ zooming @ mirror
    shift = (rotation @ np.stack([shift_x, shift_y], axis=-1)[..., None])[..., 0]
    return np.concatenate([linear.reshape(-1, 4), shift, brightness[:, None]], axis=1).astype(np.float32)


def _matrix(xx: Any, xy: Any, yx: Any, yy: Any) -> NDArray[np.float64]:
    """(B, 2, 2) matrices acting on (x, y)."""
    return np.stack([np.stack([xx, xy], axis=-1), np.stack([yx, yy], axis=-1)], axis=-2)


# ---- pixels ----------------------------------------------------------------------------------------------


def transform_pixels(pixels: Any, parameters: Any, fill: str = "nearest") -> Any:
    """Show each picture as its parameters say; usable eagerly, in ``tf.function`` and in ``tf.data``.

    Parameters
    ----------
    pixels : (B, S, S, C) uint8 or float32 on the scale 0 … 255.
    parameters : (B, 7) from `draw` or `view_parameters`.
    fill : ``nearest``, ``reflect`` or ``constant`` (black).

    Returns (B, S, S, C) of the same type, sampled bilinearly and clipped to 0 … 255.
    """
    from probe.tensorflow_setup import tf

    kind = tf.convert_to_tensor(pixels).dtype
    pixels, parameters = tf.cast(pixels, tf.float32), tf.convert_to_tensor(parameters, tf.float32)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=_pixel_transforms(tf, parameters, tf.shape(pixels)[1:3]),
        output_shape=tf.shape(pixels)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill.upper(),
    )
    moved = tf.clip_by_value(moved * parameters[:, 6, None, None, None], 0.0, 255.0)
    # The operation loses the static size, and a network cannot be built without it.
    moved = tf.ensure_shape(moved, pixels.shape)
    return tf.cast(tf.round(moved), kind) if kind.is_integer else moved


def _pixel_transforms(tf: Any, parameters: Any, size: Any) -> Any:
    """(B, 8) rows of ImageProjectiveTransformV3, which maps output (x, y) in pixels to input (x, y)."""
    sides = tf.cast(tf.reverse(size, [0]), tf.float32)
    centre = (sides - 1.0) / 2.0
    linear = tf.reshape(parameters[:, :4], (-1, 2, 2))
    offset = centre + parameters[:, 4:6] * sides - tf.linalg.matvec(linear, centre)
    rows = tf.concat([linear, offset[:, :, None]], axis=2)
    return tf.concat([tf.reshape(rows, (-1, 6)), tf.zeros_like(offset)], axis=1)


def sample_grid(
    pixels: NDArray[np.uint8],
    augment: Augment,
    *,
    views: int = 7,
    seed: int = 0,
    titles: Sequence[str] | None = None,
) -> Image:
    """A picture of augmented samples: a row an image, the plain one first and then `views` views of it.

    `pixels` is (B, S, S, 3) uint8. With `titles`, one an image, each stands above its row, and the columns
    are called ``original`` and ``view 1`` to ``view <views>``.
    """
    from PIL import Image

    count, side = pixels.shape[:2]
    gap = max(1, side // 32)
    # A quarter more than the size of the letters is what reaches below the line.
    strip = round(1.25 * _letters(side)) + 2 * gap if titles is not None else 0
    step = side + gap
    height = strip + count * (strip + step) - gap
    sheet = Image.new("RGB", ((views + 1) * step - gap, height), "white")
    for column in range(views + 1):
        shown = pixels
        if column:
            parameters = draw(augment, row_seeds(seed, column, np.arange(count)))
            shown = np.asarray(transform_pixels(pixels, parameters, augment.fill))
        for row in range(count):
            top = 2 * strip + row * (strip + step)
            sheet.paste(Image.fromarray(shown[row]), (column * step, top))
    if titles is not None:
        columns = ["original", *(f"view {column}" for column in range(1, views + 1))]
        for column, name in enumerate(columns):
            _write(sheet, (column * step, gap), name, side, step - gap)
        for row, title in enumerate(titles):
            _write(sheet, (0, strip + row * (strip + step) + gap), title, side, sheet.width)
    return sheet


def _letters(side: int) -> int:
    """Height of the letters over pictures of `side` pixels."""
    return max(9, side // 9)


def _write(sheet: Image, place: tuple[int, int], text: str, side: int, width: int) -> None:
    """Write `text` at `place` (left, top), cut off where it is wider than `width`."""
    import matplotlib
    from PIL import ImageDraw, ImageFont

    # The font that comes with matplotlib: it has more letters than Pillow's own, and is on every machine.
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(str(file), _letters(side))
    shown = text
    while font.getlength(shown) > width and len(shown) > 1:
        shown = shown[:-2].rstrip() + "…"
    ImageDraw.Draw(sheet).text(place, shown, fill="black", font=font)
