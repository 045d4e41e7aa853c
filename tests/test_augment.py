"""Augmentation: what the numbers mean, and that a view depends on its own seed alone."""

import numpy as np
import pytest

from probe.errors import UsageError
from probe.images.augment import (
    PRESETS,
    Augment,
    draw,
    parse_augment,
    row_seeds,
    sample_grid,
    transform_pixels,
    view_parameters,
    view_seed,
)
from probe.tensorflow_setup import tf

EVERYTHING = "flip,zoom=0.2,rotate=15,shear=0.2,shift=0.1,brightness=0.2,fill=reflect"


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)


def show(pixels, fill="nearest", **view):
    return transform_pixels(pixels, view_parameters(**view).repeat(len(pixels), axis=0), fill).numpy()


def test_every_item_is_read():
    assert parse_augment(EVERYTHING) == Augment(
        flip=True, zoom=(0.8, 1.2), rotate=15, shear=0.2, shift=0.1, brightness=(0.8, 1.2), fill="reflect"
    )


def test_ranges_separators_and_the_empty_string():
    assert parse_augment("zoom=0.7:1.3 + flip") == Augment(flip=True, zoom=(0.7, 1.3))
    assert parse_augment("zoom=0.3") == parse_augment("zoom=0.7:1.3")
    assert parse_augment("") == parse_augment("none") == Augment()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_read_and_has_plain_json(name):
    augment = parse_augment(name)
    assert augment.changes_pixels == (name != "none")
    assert set(map(type, augment.key_part().values())) <= {bool, float, str, list}


@pytest.mark.parametrize(
    "text",
    [
        "flop",
        "flip=1",
        "zoom",
        "zoom=much",
        "zoom=1",
        "zoom=1.3:0.7",
        "shift=2",
        "rotate=-5",
        "rotate=nan",
        "fill=wrap",
        "flip,flip",
    ],
)
def test_an_error_names_the_item(text):
    with pytest.raises(UsageError, match=text.split(",")[0]):
        parse_augment(text)


@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
def test_identity_leaves_pixels_untouched(pixels, fill):
    np.testing.assert_array_equal(show(pixels, fill), pixels)
    as_float = show(pixels.astype(np.float32), fill)
    assert as_float.dtype == np.float32
    np.testing.assert_array_equal(as_float, pixels)


def test_flip_mirrors_left_and_right(pixels):
    np.testing.assert_array_equal(show(pixels, flip=True), pixels[:, :, ::-1])


@pytest.mark.parametrize("side", [8, 9])
def test_a_quarter_turn(side):
    pixels = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    np.testing.assert_array_equal(show(pixels, rotate=90), np.rot90(pixels, k=-1, axes=(1, 2)))


def test_a_shift_is_a_fraction_of_the_side_and_fill_decides_the_rest(pixels):
    sideways = show(pixels, "constant", shift_x=1 / 9)
    np.testing.assert_array_equal(sideways[:, :, :-1], pixels[:, :, 1:])
    assert not sideways[:, :, -1].any()
    down = show(pixels, "nearest", shift_y=-2 / 9)
    np.testing.assert_array_equal(down[:, 2:], pixels[:, :-2])
    np.testing.assert_array_equal(down[:, 0], pixels[:, 0])


def test_zoom_above_one_shows_more_than_the_picture():
    pixels = np.full((1, 9, 9, 3), 200, dtype=np.uint8)
    wide = show(pixels, "constant", zoom_x=2.0)
    assert not wide[0, :, 0].any()
    assert (wide[0, :, 4] == 200).all()


def test_shear_is_in_degrees(pixels):
    assert np.abs(show(pixels, shear=0.2).astype(int) - pixels).max() <= 4
    assert np.abs(show(pixels, shear=20.0).astype(int) - pixels).max() > 4


def test_brightness_multiplies_and_clips(pixels):
    bright = show(pixels, brightness=1.5)
    np.testing.assert_array_equal(bright, np.clip(np.round(pixels * 1.5), 0, 255).astype(np.uint8))


def test_a_view_depends_on_its_own_seed_alone():
    augment = parse_augment(EVERYTHING)
    seeds = row_seeds(7, 3, np.arange(50))
    together = draw(augment, seeds)
    alone = np.concatenate([draw(augment, seeds[row : row + 1]) for row in range(50)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[::-1], draw(augment, seeds[::-1]))


def test_seeds_differ_by_row_epoch_view_and_seed():
    rows = np.arange(100)
    seeds = np.concatenate([row_seeds(s, e, rows) for s, e in [(0, 0), (0, 1), (1, 0)]])
    assert len(np.unique(seeds)) == 300
    assert len({view_seed(s, h, v) for s in (0, 1) for h in ("a", "b") for v in (1, 2)}) == 8


def test_drawn_numbers_are_pinned():
    """A change here changes every stored view and every augmented run."""
    drawn = draw(parse_augment(EVERYTHING), np.array([5], np.uint64))
    expected = [-0.944217205, 0.157307804, 0.123376422, 1.183819532, -0.063547656, -0.072392173, 1.004440546]
    assert view_seed(0, "ab" * 32, 1) == 10671888990221009515
    np.testing.assert_allclose(drawn, [expected], rtol=1e-6)


def test_draws_fill_their_ranges_and_axes_are_independent():
    augment = parse_augment("flip,zoom=0.5:1.5,shift=0.1,brightness=0.3")
    drawn = draw(augment, row_seeds(0, 0, np.arange(4000)))
    zoom_x, zoom_y = np.abs(drawn[:, 0]), drawn[:, 3]
    for values, low, high in [
        (zoom_x, 0.5, 1.5),
        (zoom_y, 0.5, 1.5),
        (drawn[:, 4], -0.1, 0.1),
        (drawn[:, 5], -0.1, 0.1),
        (drawn[:, 6], 0.7, 1.3),
    ]:
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
    correlation = np.corrcoef(np.stack([drawn[:, 0] < 0, zoom_x, zoom_y, *drawn[:, 4:].T]))
    assert np.abs(correlation - np.eye(6)).max() < 0.06
    assert abs((drawn[:, 0] < 0).mean() - 0.5) < 0.03


def test_tf_data_gives_the_same_views_in_any_batch(pixels):
    parameters = draw(parse_augment(EVERYTHING), row_seeds(0, 0, np.arange(3)))
    eager = transform_pixels(pixels, parameters, "reflect").numpy()
    for batch in (1, 2):
        piped = tf.data.Dataset.from_tensor_slices((pixels, parameters)).batch(batch)
        piped = piped.map(lambda p, v: transform_pixels(p, v, "reflect"))
        assert piped.element_spec.shape[1:] == (9, 9, 3)
        np.testing.assert_array_equal(np.concatenate(list(piped.as_numpy_iterator())), eager)


def test_a_grid_with_titles_has_a_strip_for_the_columns_and_one_for_every_row(pixels):
    shown = sample_grid(pixels, parse_augment("brightness=0:0"), views=2, titles=["cat", "猫", ""])
    sheet, strip, side = np.asarray(shown), 11 + 2, 9
    assert sheet.shape == (29 + 4 * strip, 29, 3)
    tops = [2 * strip + row * (side + 1 + strip) for row in range(3)]
    for row, top in enumerate(tops):
        np.testing.assert_array_equal(sheet[top : top + side, :side], pixels[row])
        assert not sheet[top : top + side, 10:19].any()
    written = [(sheet[top - strip : top] < 128).any() for top in (strip, *tops)]
    assert written == [True, True, True, False]


def test_the_grid_starts_with_the_plain_picture(pixels):
    sheet = np.asarray(sample_grid(pixels, parse_augment("brightness=0:0"), views=2))
    assert sheet.shape == (29, 29, 3)
    np.testing.assert_array_equal(sheet[:9, :9], pixels[0])
    assert not sheet[:9, 10:19].any()
