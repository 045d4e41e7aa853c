"""``make bench``: run every measurement, or those named: ``python -m bench extraction heads --quick``."""

from __future__ import annotations

import argparse
import importlib
import time

MEASUREMENTS = (
    "startup",
    "engines",
    "extraction",
    "photos",
    "rows",
    "store_reading",
    "stored",
    "heads",
    "logreg",
    "finetune",
    "input_pipeline",
    "indexing",
    "classes",
    "audit",
    "load",
    "survey",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASUREMENTS], help="all of them without a name")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds: a look, not a figure")
    options = parser.parse_args()
    for name in options.names or MEASUREMENTS:
        print(f"\n{time.strftime('%H:%M:%S')} {name}", flush=True)
        importlib.import_module(f"bench.{name}").main(quick=options.quick)


if __name__ == "__main__":
    main()
