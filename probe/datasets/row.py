"""What a row of the table of data sets carries: the publisher's facts, and the code that reads the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from probe.internet import RemoteFile


@dataclass(frozen=True)
class DatasetRow:
    """One row of the table.

    Attributes
    ----------
    loader : ``module:function`` with the signature of `probe.datasets.opening.Loader`; imported when used.
    summary : one sentence for ``probe data ls``.
    folder : name of its folder under ``PROBE_HOME/datasets``; variants of one set share it.
    classes, images : declared counts; 0 where they depend on the user's files.
    splits : declared images per split, as published (before validation is carved).
    files : what ``probe data fetch`` downloads.
    class_names : names in label order, where the files carry only numbers.
    licence, source : of the data.
    facts : kept with every store of it (the year, the publisher's split, …).
    caveats : what is not certain or not as one would expect; errors about the layout quote them.
    variant : what a loader that serves several rows needs to know.
    broken : files that do not decode as the publisher ships them, by the end of their ids; listed, and no
        surprise to any command.
    markers : files or folders by one of which the top of the unpacked set is found.
    any_layout : the files are the user's, in whatever folders they lie.
    installed : where a package of the operating system puts the set; looked at when it was not fetched.
    """

    name: str
    loader: str
    summary: str
    folder: str = ""
    classes: int = 0
    images: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    files: tuple[RemoteFile, ...] = ()
    class_names: tuple[str, ...] = ()
    licence: str = ""
    source: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    variant: str = ""
    broken: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    any_layout: bool = False
    installed: str = ""
