"""Which store is meant, and who hears which was taken."""

from __future__ import annotations

from probe.store import Serves, Store, find_store
from probe.workspace.context import Context


def take_store(context: Context, named: Store | str | None, serves: Serves | None = None) -> Store:
    """The store itself, or the one that a name means; says which, where it was not named in full.

    Raises what `probe.store.find_store` does.
    """
    if isinstance(named, Store):
        return named
    found = find_store(context.home, named, serves)
    _say_store(context, found.name, named)
    return found


def _say_store(context: Context, name: str, asked: str | None) -> None:
    """Which store was taken, where it was not named in full."""
    if asked is None:
        context.say(f"store {name} (the newest)")
    elif asked != name:
        context.say(f"store {name} (for {asked})")
