"""Training curves: the smoothing, and that the picture shows every run."""

import math

import numpy as np
import pytest

from probe.errors import UsageError
from probe.report.curves import plot_curves, smooth


def test_smoothing_is_an_exponential_moving_average_from_the_first_value():
    assert smooth([1.0, 0.0, 0.0], 0.5) == [1.0, 0.5, 0.25]
    assert smooth([3.0, 1.0], 0.0) == [3.0, 1.0]
    assert smooth([], 0.5) == []


def test_missing_values_leave_the_average_as_it_was():
    values = smooth([None, 2.0, None, math.nan, 0.0], 0.5)
    assert math.isnan(values[0])
    assert values[1:] == [2.0, 2.0, 2.0, 1.0]


def test_a_weight_outside_its_range_is_said():
    with pytest.raises(UsageError, match="smoothing of 1"):
        smooth([1.0], 1)


def test_the_picture_shows_every_run(tmp_path):
    from PIL import Image

    history = {
        name: list(np.linspace(1, 0.1, 9)) for name in ("loss", "val_loss", "accuracy", "val_accuracy")
    }
    with Image.open(plot_curves({"exp1": history}, tmp_path / "plots" / "one.png")) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 400
    runs = {"exp1": history, "exp2": history, "short": {"loss": [0.5]}}
    drawn = plot_curves(runs, tmp_path / "three.svg", title="three runs").read_text()
    first, second, third = "#1f77b4", "#ff7f0e", "#2ca02c"
    assert drawn.count(first) == drawn.count(second) > drawn.count(third) > 0
