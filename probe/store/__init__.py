"""Features on disk: one zarr group a store, written once, durable unit by unit, verified on demand.

The only room that knows zarr. DESIGN: ``docs/design.md``, "The store".
"""

from probe.store.arrays import read_layout
from probe.store.catalog import (
    is_finished,
    list_stores,
    mark_used,
    open_in_place,
    put_index,
    record_beside,
    remove_store,
    reuse_finished,
    slug,
    store_folder,
    store_folders,
    store_path,
)
from probe.store.columns import hash_bytes
from probe.store.copying import CopySource, open_copy_source
from probe.store.encoding import HalfRangeError, encode, rounding_of, rounding_text
from probe.store.files import LocalFiles
from probe.store.finding import Serves, find_store, fits_a_store, is_store_name, newest_of
from probe.store.index import Index
from probe.store.manifest import Manifest, read_manifest
from probe.store.mapped import MappedRows
from probe.store.reader import FeatureArray, Store, open_store
from probe.store.repair import Repair, mend, unsealed_store
from probe.store.spec import IMPORTED, INT8, Layout, StoreSpec, images_digest, stored_arrays, unit_rows
from probe.store.verify import Verification, verify_store
from probe.store.writer import StoreWriter, create, finished_rows

__all__ = [
    "IMPORTED",
    "CopySource",
    "FeatureArray",
    "HalfRangeError",
    "INT8",
    "Index",
    "Layout",
    "LocalFiles",
    "Manifest",
    "MappedRows",
    "Repair",
    "Serves",
    "Store",
    "StoreSpec",
    "StoreWriter",
    "Verification",
    "create",
    "encode",
    "find_store",
    "finished_rows",
    "fits_a_store",
    "hash_bytes",
    "images_digest",
    "is_finished",
    "is_store_name",
    "list_stores",
    "mark_used",
    "mend",
    "newest_of",
    "open_copy_source",
    "open_in_place",
    "open_store",
    "put_index",
    "read_layout",
    "record_beside",
    "read_manifest",
    "remove_store",
    "reuse_finished",
    "rounding_of",
    "rounding_text",
    "slug",
    "store_folder",
    "store_folders",
    "store_path",
    "stored_arrays",
    "unit_rows",
    "unsealed_store",
    "verify_store",
]
