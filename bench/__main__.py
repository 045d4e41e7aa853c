"""``make bench``: run every measurement, or those named: ``python -m bench extraction heads --quick``."""

from __future__ import annotations

import argparse
import importlib
import time

from probe.errors import DataError

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
    left_out = []
    for name in options.names or MEASUREMENTS:
        print(f"\n{time.strftime('%H:%M:%S')} {name}", flush=True)
        try:
            importlib.import_module(f"bench.{name}").main(quick=options.quick)
        except DataError as error:
            # Pictures that are not here are no reason to leave out what comes after.
            left_out.append(f"{name}: {error}")
            print(left_out[-1], flush=True)
    if left_out:
        raise SystemExit("not measured: " + "; ".join(left_out))


if __name__ == "__main__":
    main()
