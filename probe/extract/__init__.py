"""data set × backbone -> store."""

from probe.extract.engine import said_of_engine, settle_engine
from probe.extract.estimate import Estimate, estimate, missing_rows
from probe.extract.job import ExtractJob, Views, expect_fits
from probe.extract.parallel import extract_in_processes, extract_on_cluster
from probe.extract.reopen import backbone_of, dataset_of, has_images, has_network
from probe.extract.repair import repair
from probe.extract.run import ExtractResult, Shard, extract
from probe.extract.standardise import STANDARDISE, training_standardisation

__all__ = [
    "Estimate",
    "STANDARDISE",
    "ExtractJob",
    "ExtractResult",
    "Shard",
    "Views",
    "backbone_of",
    "dataset_of",
    "estimate",
    "expect_fits",
    "extract",
    "extract_in_processes",
    "extract_on_cluster",
    "has_images",
    "has_network",
    "missing_rows",
    "repair",
    "said_of_engine",
    "settle_engine",
    "training_standardisation",
]
