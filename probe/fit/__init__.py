"""store × head -> run; and what can be said of runs."""

from probe.fit.compare import compare
from probe.fit.fit import FitJob, fit

__all__ = ["FitJob", "compare", "fit"]
