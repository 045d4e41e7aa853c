"""store × head -> run; and what can be said of runs."""

from probe.fit.compare import compare
from probe.fit.fit import FitJob, fit
from probe.fit.predict import Prediction, predict

__all__ = ["FitJob", "Prediction", "compare", "fit", "predict"]
