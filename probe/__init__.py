"""Extract image embeddings once, then fit, compare and fine-tune in seconds."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.errors import ProbeError
    from probe.workspace.workspace import Workspace

__version__ = "0.1.0"

__all__ = ["ProbeError", "Workspace", "__version__"]

_WHERE = {"ProbeError": "probe.errors", "Workspace": "probe.workspace.workspace"}
"""Name -> where it comes from, imported when it is asked for: ``import probe`` costs nothing."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
