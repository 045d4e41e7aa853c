"""Training curves: the smoothing, and that the picture shows every run."""

import math

import numpy as np
import pytest

from probe.curves import SMOOTH_FROM, Course, draw_curves, plot_curves, smooth
from probe.drawing import STRONG
from probe.errors import UsageError


def test_the_moving_average_weighs_what_there_is_and_nothing_before_it():
    """0 after 1 at a factor of 0.5 counts twice as much as the 1."""
    assert smooth([1.0, 0.0, 0.0], 0.5) == pytest.approx([1, 1 / 3, 1 / 7])
    assert smooth([2.0] * 5, 0.8) == pytest.approx([2.0] * 5)
    assert smooth([3.0, 1.0], 0.0) == [3.0, 1.0]
    assert smooth([], 0.5) == []


def test_missing_values_leave_the_average_as_it_was():
    values = smooth([None, 2.0, None, math.nan, 0.0], 0.5)
    assert math.isnan(values[0])
    assert values[1:] == pytest.approx([2.0, 2.0, 2.0, 2 / 3])


def figures(**changes):
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {name: changes.get(name, [0.1, 0.2]) for name in names}


def lines(figure, panel):
    """Label -> (x, y) of the lines of a panel."""
    drawn = figure.axes[panel].get_lines()
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in drawn}


def legends(figure):
    """The texts of the legend of runs, and of that of how lines are read."""
    return [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]


def test_a_short_training_is_drawn_as_it_was_measured():
    """Two epochs, 0.0625 and 0.298: the line ends at 0.298, and there is no other."""
    figure = draw_curves({"run": figures(val_accuracy=[0.0625, 0.298])})
    drawn = lines(figure, 1)
    assert drawn.keys() == {"run, training", "run, validation"}
    assert drawn["run, validation"] == ([1, 2], [0.0625, 0.298])
    assert figure.axes[1].get_lines()[1].get_alpha() in (None, 1.0)


def test_a_long_training_has_a_moving_average_that_says_what_it_is():
    values = list(np.linspace(1, 0, SMOOTH_FROM))
    drawn = lines(draw_curves({"run": figures(loss=values)}), 0)
    assert drawn["run, training"][1] == values
    assert drawn["run, training, moving average (factor 0.8)"][1] == smooth(values)
    assert lines(draw_curves({"run": figures(loss=values)}, smoothing=0), 0).keys() == {
        "run, training",
        "run, validation",
    }


def test_the_kept_epoch_is_marked_and_named():
    figure = draw_curves({"run": Course(figures(val_loss=[0.3, 0.1, 0.2]), kept=2)})
    assert lines(figure, 0)["run, kept"] == ([2], [0.1])
    assert lines(figure, 1)["run, kept"] == ([2], [0.2])
    runs, reading = legends(figure)
    assert runs == ["run (kept: epoch 2)"]
    assert reading == ["training", "validation", "kept epoch"]


def test_without_validation_the_kept_epoch_is_marked_on_the_training_line():
    figure = draw_curves({"run": Course({"loss": [0.3, 0.1], "accuracy": [0.5, 0.6]}, kept=2)})
    assert lines(figure, 0)["run, kept"] == ([2], [0.1])


def test_the_start_is_epoch_0_of_the_validation_line_and_can_be_the_kept_one():
    course = Course(figures(val_loss=[0.4, 0.5]), kept=0, start={"val_loss": 0.3, "val_accuracy": 0.9})
    figure = draw_curves({"run": course})
    drawn = lines(figure, 0)
    assert legends(figure)[0] == ["run (kept: epoch 0, before training)"]
    assert drawn["run, validation"] == ([0, 1, 2], [0.3, 0.4, 0.5])
    assert drawn["run, training"][0] == [1, 2]
    assert drawn["run, kept"] == ([0], [0.3])


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("start", [None, {"val_loss": 0.3}])
def test_ticks_are_whole_epochs_of_the_training(epochs, start):
    history = {name: [0.5] * epochs for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    figure = draw_curves({"run": Course(history, start=start)})
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert shown
    assert all(tick == int(tick) for tick in shown)
    assert min(shown) >= (0 if start else 1) - (epochs > 7)
    assert max(shown) <= epochs + (epochs > 7)


def test_a_run_with_a_loss_alone_is_in_the_legend():
    assert legends(draw_curves({"short": {"loss": [0.5]}})) == [["short"], ["training"]]
    assert draw_curves({"none": {}}).legends == []


def test_a_factor_is_named_in_the_legend_and_can_be_used_on_a_short_training():
    figure = draw_curves({"run": figures(loss=[1.0, 0.0, 0.5])}, smoothing=0.5, smooth_from=2)
    assert lines(figure, 0)["run, training, moving average (factor 0.5)"][1] == smooth([1.0, 0.0, 0.5], 0.5)
    assert legends(figure)[1] == ["training", "validation", "as measured", "moving average (factor 0.5)"]


@pytest.mark.parametrize("count", [1, 3, 14])
@pytest.mark.parametrize("name", ["a", "20261129-121507-cifar10-exp0-fashion-sample-s0-of-a-long-name"])
def test_the_legends_lie_within_the_picture_and_off_the_panels(count, name):
    figure = draw_curves({f"{name}{n}": Course(figures(), kept=1) for n in range(count)}, title="a title")
    figure.draw_without_rendering()
    whole = figure.bbox
    panels = [axes.get_tightbbox() for axes in figure.axes]
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1
        assert not any(box.overlaps(panel) for panel in panels)
    assert all(panel.height > 0.5 * 4.0 * figure.dpi for panel in panels)
    assert len({line.get_color() for line in figure.axes[0].get_lines()}) == count


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
    first, second, third = STRONG[:3]
    assert drawn.count(first) == drawn.count(second) > drawn.count(third) > 0
