"""Sets that are tables of pictures, told apart by their files: parquet, Hugging Face's format, WebDataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probe.config import home_parts
from probe.datasets import hugging_face, parquet, webdataset
from probe.datasets.files import find_images
from probe.datasets.listing import Listing
from probe.errors import UsageError


def list_table(spec: str, cache: Path, columns: Sequence[str]) -> Listing | None:
    """The rows of `spec` where it is such a set, otherwise None.

    A folder of pictures is none, whatever else lies in it. Raises DataError and UsageError.
    """
    if spec.startswith(hugging_face.PREFIX):
        return hugging_face.read_hub(spec, columns)
    if webdataset.is_pattern(spec):
        return _shards(Path(spec).parent, webdataset.expand(str(Path(spec).expanduser())), columns)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(path, cache, columns)
    if path.suffix.lower() == webdataset.SUFFIX and path.is_file():
        return _shards(path.parent, [path], columns)
    if path.suffix.lower() == parquet.SUFFIX and path.is_file() and parquet.has_pictures(path):
        return parquet.read_parquet(path, cache, columns)
    return None


def _folder(path: Path, cache: Path, columns: Sequence[str]) -> Listing | None:
    if hugging_face.is_saved(path):
        return hugging_face.read_saved(path, columns)
    own = home_parts(path, [entry.name for entry in path.iterdir()])
    shards, files = (
        [file for file in files if file.relative_to(path).parts[0] not in own]
        for files in (webdataset.find_shards(path), parquet.find_parquet(path))
    )
    if not (shards or files) or find_images(path).images:
        return None
    if shards and files:
        raise UsageError(
            f"{path} can be read in two ways",
            found=f"{shards[0].name} and {files[0].name}",
            hint="give the folder of one of them",
        )
    return _shards(path, shards, columns) if shards else parquet.read_parquet(path, cache, columns)


def _shards(root: Path, shards: list[Path], columns: Sequence[str]) -> Listing:
    if columns:
        raise UsageError("--columns does not apply to shards", hint="KEY.jpg and KEY.cls belong together")
    return webdataset.read_shards(root, shards)
