"""pyarrow, which is an extra: imported when a parquet file is asked for, and not before."""

from __future__ import annotations

from typing import Any

from probe.errors import UsageError


def load_pyarrow() -> Any:
    """pyarrow with its parquet module; UsageError when it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("parquet files need pyarrow", hint="pip install 'probe[parquet]'") from error
    return pyarrow
