"""Embeddings in and out of stores as npy, npz and parquet files."""

from probe.store.exchange.exporting import FORMATS, ExportResult, default_file, export_store
from probe.store.exchange.importing import ImportResult, import_store

__all__ = ["FORMATS", "ExportResult", "ImportResult", "default_file", "export_store", "import_store"]
