"""store × head -> run; runs on new images."""

from probe.fit.fit import FitJob, finished_fit, fit
from probe.fit.parallel import predict_in_processes
from probe.fit.predict import STDIN, Prediction, gather, predict, predict_inputs
from probe.fit.rows import Choice, serves_fit

__all__ = [
    "STDIN",
    "Choice",
    "FitJob",
    "Prediction",
    "finished_fit",
    "fit",
    "gather",
    "predict",
    "predict_in_processes",
    "predict_inputs",
    "serves_fit",
]
