"""A user's own function as a backbone: called once, and the model that it makes kept as a ``.keras`` file."""

from __future__ import annotations

import importlib
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from probe.backbones.hub_preset import PREFIX
from probe.backbones.keras_file import SUFFIX
from probe.config import Home
from probe.durable import WRITING, settle
from probe.errors import UsageError
from probe.hashing import file_hash
from probe.scratch import scratch_folder

NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
SAVED_AT = (1980, 1, 1, 0, 0, 0)


def is_function(name: str) -> bool:
    """Whether `name` is written ``module:function``; ``hub:`` begins a preset."""
    return not name.startswith(PREFIX) and NAME.fullmatch(name) is not None


def saved_model(name: str, home: Home) -> Path:
    """Call ``module:function`` and keep its model below the weights of `home`; the same model, same bytes.

    The module is looked for in the working folder first, as ``python`` does. What is untrained in the model
    is made from seed 0. Everything afterwards reads the file, so what is recorded leads to a network and
    never to code.

    Raises
    ------
    UsageError : there is no such module or function, it fails, or what it makes is no model that can be kept.
    """
    from probe.backbones.network import made_alone

    with _working_folder():
        function = _found(name)
        model = made_alone(lambda: _called(name, function))
    home.mark()
    folder = home.weights / "functions"
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder, WRITING) as writing:
        made = writing / f"{name.replace(':', '.')}{SUFFIX}"
        model.save(made)
        _drop_time_and_addresses(made)
        path = folder / file_hash(made)[:16] / made.name
        path.parent.mkdir(exist_ok=True)
        settle(made, path)
    return path


@contextmanager
def _working_folder() -> Iterator[None]:
    """The working folder first among those that modules are imported from."""
    before, sys.path[:0] = sys.path[:], [str(Path.cwd())]
    try:
        yield
    finally:
        sys.path[:] = before


def _found(name: str) -> Callable[[], Any]:
    module, _, wanted = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), wanted, None)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise _failed(f"{module} cannot be imported", error) from error
        raise UsageError(
            f"{name} cannot be imported",
            found=str(error),
            hint=f"run it where {module.replace('.', '/')}.py lies, or install the package",
        ) from error
    except Exception as error:
        raise _failed(f"{module} cannot be imported", error) from error
    if not callable(function):
        raise UsageError(
            f"{module} has no function {wanted}",
            expected="a function without arguments that returns a keras.Model",
        )
    return function


def _called(name: str, function: Callable[[], Any]) -> Any:
    from probe.tensorflow_setup import keras

    try:
        model = function()
    except Exception as error:
        raise _failed(f"{name} failed", error) from error
    if not isinstance(model, keras.Model) or not (model.built and model.inputs):
        raise UsageError(
            f"{name} made no backbone",
            expected="a functional or sequential keras.Model with an Input",
            found=type(model).__name__,
        )
    return model


def _failed(problem: str, error: Exception) -> UsageError:
    return UsageError(problem, found=f"{type(error).__name__}: {error}")


def _drop_time_and_addresses(path: Path) -> None:
    """Rewrite a ``.keras`` file without what differs between two savings of one model."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(parts["metadata.json"])
    metadata.pop("date_saved", None)
    parts["metadata.json"] = json.dumps(metadata).encode()
    parts["config.json"] = json.dumps(_numbered(json.loads(parts["config.json"]), {})).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name, SAVED_AT), content)


def _numbered(config: Any, numbers: dict[int, int]) -> Any:
    """`config` with objects that are shared numbered in their order, not by where they lay in memory."""
    if isinstance(config, list):
        return [_numbered(value, numbers) for value in config]
    if not isinstance(config, dict):
        return config
    found = {name: _numbered(value, numbers) for name, value in config.items()}
    if "shared_object_id" in config:
        found["shared_object_id"] = numbers.setdefault(config["shared_object_id"], len(numbers))
    return found
