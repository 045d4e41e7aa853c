"""store × head -> run; and what can be said of runs."""

from probe.fit.compare import compare, compare_all, compared_on
from probe.fit.fit import FitJob, fit
from probe.fit.predict import STDIN, Prediction, gather, predict, predict_inputs
from probe.fit.samples import Choice, serves_fit

__all__ = [
    "STDIN",
    "Choice",
    "FitJob",
    "Prediction",
    "compare",
    "compare_all",
    "compared_on",
    "fit",
    "gather",
    "predict",
    "predict_inputs",
    "serves_fit",
]
