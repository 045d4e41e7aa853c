"""data set × backbone -> store."""

from probe.extract.cluster import extract_on_cluster
from probe.extract.estimate import Estimate, estimate
from probe.extract.job import ExtractJob, Views
from probe.extract.parallel import extract_in_processes
from probe.extract.run import ExtractResult, Shard, extract

__all__ = [
    "Estimate",
    "ExtractJob",
    "ExtractResult",
    "Shard",
    "Views",
    "estimate",
    "extract",
    "extract_in_processes",
    "extract_on_cluster",
]
