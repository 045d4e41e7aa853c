"""A store looked through for what is wrong with its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probe.datasets.dataset import VAL
from probe.errors import UsageError
from probe.records import LARGEST
from probe.text import parse_bytes
from probe.workspace.context import Context
from probe.workspace.keywords import at_least, below, one_of

if TYPE_CHECKING:
    from probe.audit import Audit
    from probe.store import Store

REMOVABLE = ("exact-copies", "near-copies", "several-labels", "wrong-labels", "outliers")


@dataclass(frozen=True)
class AuditKeywords:
    """How a store is looked through, by the names and with the defaults of the options of ``probe audit``.

    Attributes
    ----------
    output : which stored output; None takes the store's first.
    memory : features that take more than this, ``"2GB"``, with what is held beside them, are read in blocks.
    seed : of the folds in which labels are judged.
    fix : write a label file here, with the suspects marked.
    remove : kinds of suspects that have no label in that file, of `REMOVABLE`.
    """

    output: str | None = None
    memory: str = "2GB"
    seed: int = 0
    fix: Path | None = None
    remove: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least(0, seed=self.seed)
        below(LARGEST, seed=self.seed)
        parse_bytes(self.memory, "--memory")
        for kind in self.remove:
            one_of(REMOVABLE, remove=kind)
        if self.remove and self.fix is None:
            raise UsageError("--remove says what a label file leaves out", hint="--fix labels.csv")


def audit(context: Context, store: Store, wanted: AuditKeywords) -> Audit:
    """Look the store through, keep the record beside it, write the label file where one is wanted.

    What cannot be written is said before anything is computed. Raises as `probe.audit.audit` and
    `probe.audit.label_file`.
    """
    from probe.audit import AuditJob, audit, check_place, label_file

    if wanted.fix is not None:
        check_place(wanted.fix)
    job = AuditJob(
        store=store,
        output=wanted.output,
        memory=parse_bytes(wanted.memory, "--memory"),
        seed=wanted.seed,
        progress=context.progress,
    )
    found = audit(job, context.home)
    if wanted.fix is not None:
        written = label_file(found, store, wanted.fix, remove=wanted.remove)
        context.say(
            f"{written.path}: {written.marked:,} suspects marked, {written.removed:,} without their label"
        )
        context.say(_how_to_use(store, written.path))
    return found


def _how_to_use(store: Store, path: Path) -> str:
    """How the label file is read, where the data set can be read by one."""
    spec = str(store.origins[-1].get("spec", "")) if store.origins else ""
    if Path(spec).is_dir() or spec.endswith(".txt"):
        # Without a validation part one would be taken from train, which is another split.
        no_val = "" if (store.index.splits == VAL).any() else " --validation 0"
        return f"when it is right: probe extract … {spec} --labels {path}{no_val}"
    return "label files are read for folders and lists of images, and this data set is neither"
