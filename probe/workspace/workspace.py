"""Everything `probe` does, for notebooks and programs: a home, and the verbs that work in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.config import Home, default_home
from probe.text import count_of
from probe.workspace.audit import AuditKeywords, audit
from probe.workspace.compare import Compared, compare
from probe.workspace.context import Context
from probe.workspace.data import DataKeywords
from probe.workspace.extract import ExtractKeywords, Workers, extract, prepare
from probe.workspace.finetune import TuneKeywords, finetune
from probe.workspace.fit import FitKeywords, choose_store, fit
from probe.workspace.keywords import divide, read_value, takes
from probe.workspace.lists import DataSets, Runs, Stores
from probe.workspace.plot import plot
from probe.workspace.points import POINTS, points
from probe.workspace.predict import Predicted, predict
from probe.workspace.report import REPORT, report
from probe.workspace.runs import take_run
from probe.workspace.survey import SurveyKeywords, plan_survey, survey
from probe.workspace.tracking import log_run

if TYPE_CHECKING:
    from probe.audit import Audit
    from probe.fit.export import Exported
    from probe.report.points import Points
    from probe.runs import Run
    from probe.store import Store
    from probe.survey.result import Survey


class Workspace:
    """A home of data sets, weights, stores and runs, and what can be done in it.

    Keyword arguments have the names, the defaults and the checks of the options of the command of the same
    name. What goes wrong is a `probe.ProbeError` that says what was expected, what was found and what to do.

    Parameters
    ----------
    home : its folder; by default what ``PROBE_HOME`` names, else ``data``.
    quiet : neither notes nor progress on stderr.
    """

    def __init__(self, home: str | Path | None = None, *, quiet: bool = False) -> None:
        self._context = Context(Home(Path(home).expanduser()) if home is not None else default_home(), quiet)

    @property
    def home(self) -> Path:
        """The folder that holds everything."""
        return self._context.home.root

    @takes(ExtractKeywords, Workers, DataKeywords, without=["shard"])
    def extract(self, dataset: str | Path, **keywords: Any) -> Store:
        """Run a backbone over a data set once: the store of its embeddings.

        The weights are fetched where they are not here, and so is a data set that has a name. A finished
        store of the same images and settings is reused, an interrupted one is resumed.

        Parameters
        ----------
        dataset : a name from `data`, a folder of images, or any other that ``probe extract`` takes.
        keywords : ``backbone`` (required) and the options of ``probe extract``, see
            `probe.workspace.extract.ExtractKeywords` and `probe.workspace.data.DataKeywords`.

        Raises
        ------
        UsageError : an option is unknown, of the wrong type, or asks for what cannot be.
        DataError : the images cannot be read or fetched.
        WeightsError : the weights cannot be found, fetched or trusted.
        StoreError : the store cannot be written.
        """
        from probe.store import open_store

        wanted, workers, data = divide(keywords, ExtractKeywords, Workers, DataKeywords)
        job = prepare(self._context, str(dataset), wanted, data.options())
        return open_store(Path(extract(self._context, job, workers).path))

    @takes(FitKeywords, and_others=True)
    def fit(self, head: str, store: Store | str | None = None, **keywords: Any) -> Run:
        """Fit a head on a store. Choices are made on validation; the test split is scored once.

        Parameters
        ----------
        head : a name from ``probe heads``, such as ``logreg``.
        store : a store, or what names one; by default the newest that has what is asked for.
        keywords : the options of ``probe fit HEAD``: those of every head, see
            `probe.workspace.fit.FitKeywords`, and the head's own.

        Raises
        ------
        UsageError : an option or a name is unknown, or a value cannot be used.
        FitError : the store cannot be fitted on.
        StoreError : there is no such store, or it is damaged.
        """
        from probe.heads import HEADS
        from probe.registry import load_object

        row = HEADS[head]
        wanted, options = divide(keywords, FitKeywords, load_object(row.options))
        return fit(self._context, row, choose_store(self._context, store, wanted), wanted, options)

    @takes(SurveyKeywords, DataKeywords, without=["rehash"])
    def survey(self, dataset: str | Path, **keywords: Any) -> Survey:
        """Which features are good for the classes of a data set: backbones × outputs × heads in one table.

        What is there is used; what is missing is extracted, a backbone's outputs in one pass, and fitted.
        Which rows cannot be told from the best is known after Holm's correction for all pairs.

        Parameters
        ----------
        dataset : as `extract` takes it.
        keywords : ``backbones`` (required), ``outputs``, ``heads`` and the other options of ``probe survey``,
            see `probe.workspace.survey.SurveyKeywords`, and of how a data set is read.

        Returns
        -------
        A `probe.survey.result.Survey` with ``table``, ``best``, ``alike``, ``failed`` and ``figure(path)``; a
        backbone that cannot be had fails its rows and not the call.

        Raises
        ------
        UsageError : an option or a name is unknown, or no backbone has an output that is asked for.
        DataError : the images cannot be read, or have no labelled training and test parts.
        """
        wanted, data = divide(keywords, SurveyKeywords, DataKeywords)
        return survey(self._context, plan_survey(self._context, str(dataset), wanted, data.options()))

    @takes(TuneKeywords, DataKeywords, without=["rehash"])
    def finetune(
        self,
        dataset: Store | str | Path | None = None,
        *,
        store: Store | str | None = None,
        resume: bool = False,
        tensorboard: str | Path | None = None,
        devices: Sequence[str] | None = None,
        **keywords: Any,
    ) -> Run:
        """Train a head and the upper part of a backbone, and compare with the frozen probe.

        Parameters
        ----------
        dataset : a store, for its images and its backbone, or a data set; by default those of the newest
            store that has a network.
        store : whose backbone is taken, where it is not that of `dataset`.
        resume : continue this very call after its last finished epoch; a finished one is not repeated.
        tensorboard : folder for TensorBoard's logs.
        devices : train on these together, such as ``GPU:0``; by default on all GPUs.
        keywords : the options of ``probe finetune``, see `probe.workspace.finetune.TuneKeywords`, and of how
            a data set is read.

        Raises
        ------
        UsageError : an option is unknown, of the wrong type, or asks for what cannot be.
        StoreError, DataError : the store or its images are not what they were.
        FitError : there is nothing to train on, or the training diverged.
        """
        wanted, data = divide(keywords, TuneKeywords, DataKeywords)
        return finetune(
            self._context,
            str(dataset) if isinstance(dataset, Path) else dataset,
            store,
            wanted,
            data.options(),
            resume=resume,
            tensorboard=Path(tensorboard) if tensorboard else None,
            devices=devices,
        )

    @takes(AuditKeywords)
    def audit(self, store: Store | str | None = None, **keywords: Any) -> Audit:
        """What is wrong with the data of a store, and what it does to the test accuracy.

        Copies within and across parts, pictures under several labels, likely wrong labels, outliers, classes
        that cannot be told apart, unreadable pictures. The record is kept beside the store.

        Parameters
        ----------
        store : a store, or what names one; by default the newest.
        keywords : the options of ``probe audit``, see `probe.workspace.audit.AuditKeywords`.

        Raises
        ------
        UsageError : an option is unknown or cannot be used, or the file for `fix` exists.
        StoreError : there is no such store, it is damaged, or the record cannot be kept.
        FitError : no picture of it was read.
        """
        from probe.workspace.stores import take_store

        (wanted,) = divide(keywords, AuditKeywords)
        return audit(self._context, take_store(self._context, store), wanted)

    def compare(self, *runs: Run | str) -> Compared:
        """Compare two runs or more on the test images they share: score test and its interval.

        Raises
        ------
        UsageError : less than two runs, or one of them twice.
        FitError : they have other classes, or too few test images in common.
        """
        return compare(self._context, runs)

    def predict(
        self,
        run: Run | str,
        paths: str | Path | Sequence[str | Path],
        *,
        follow_links: bool = False,
        jobs: int = 1,
    ) -> Predicted:
        """Predict image files, folders of them or ``.txt`` lists with a run, in `jobs` local processes.

        Returns
        -------
        A sequence of M predictions with ``labels`` and ``probabilities`` (M, C); an image that cannot be read
        is one without, and is named in ``problems``.

        Raises
        ------
        UsageError : a path does not exist, or there is no image.
        FitError : the run cannot see images.
        WeightsError : the weights here are not those it was fitted on.
        """
        several = [paths] if isinstance(paths, str | Path) else paths
        jobs = read_value("jobs", jobs, int)
        return predict(
            self._context, take_run(self._context, run), several, follow_links=follow_links, jobs=jobs
        )

    def export(
        self, run: Run | str, format: str = "keras", *, output_file: str | Path | None = None
    ) -> Exported:
        """Write a run as one model, from pixels to probabilities, with a description beside it.

        Parameters
        ----------
        format : ``keras`` or ``onnx``.
        output_file : where to; by default RUN.keras or RUN.onnx in the working directory.

        Raises
        ------
        UsageError : there is no such format, or the file has another ending or no folder.
        FitError : the run cannot see images, or its head is no network.
        WeightsError : the weights here are not those it was fitted on.
        """
        from probe.fit.export import export

        found = take_run(self._context, run)
        return export(found, self._context.home, format, Path(output_file) if output_file else None)

    def report(
        self,
        *names: Run | Store | str,
        output: str | Path = REPORT,
        map: str = "pca",
        title: str = "",
    ) -> Path:
        """Write one page to look at, of runs (by default the newest) and stores, that needs no network.

        Parameters
        ----------
        output : where to, ``.html``.
        map : how embeddings become a map, ``pca`` or ``opentsne``.
        title : above the page; by default data set, head and backbone.

        Returns
        -------
        Where it lies.

        Raises
        ------
        UsageError : the file has another ending or no folder, or something is named twice.
        RunError, StoreError : there is no such run or store, or it is damaged.
        """
        return report(self._context, names, Path(output), map=map, title=title)

    def plot(
        self,
        what: str,
        *names: Run | Store | str,
        output: str | Path | None = None,
        title: str = "",
        map: str = "pca",
        colour: str = "class",
    ) -> Path:
        """Draw one figure of runs (by default the newest) or of a store, as ``probe plot`` does.

        Parameters
        ----------
        what : ``confusion``, ``map``, ``path``, ``few-shot``, ``reliability``, ``per-class`` or ``samples``.
        output : ``.png``, ``.svg`` or ``.pdf``; by default WHAT.png in the working directory.
        map, colour : of a map, see ``probe plot map``.

        Returns
        -------
        Where it lies.

        Raises
        ------
        UsageError : the runs have no such figure, or it cannot be written there.
        """
        file = Path(output or f"{what}.png")
        return plot(self._context, what, names, file, title=title, map=map, colour=colour)

    def log(self, run: Run | str, tracker: str) -> None:
        """Log a finished run to ``mlflow``, ``mlflow:URI`` or ``tensorboard:FOLDER``.

        Raises
        ------
        UsageError : there is no such tracker, or its client is not installed.
        ProbeError : it cannot be reached.
        """
        log_run(self._context, take_run(self._context, run), [tracker])

    def points(
        self,
        name: Run | Store | str | None = None,
        *,
        output: str | Path = POINTS,
        map: str = "pca",
        images: bool = True,
    ) -> Points:
        """Write the images of a run (by default the newest) or a store as points for other programs.

        Parameters
        ----------
        output : ``.parquet``, or a folder for TensorBoard's projector.
        map : what x and y are, ``pca`` or ``opentsne``.
        images : whether small pictures go into it.

        Raises
        ------
        UsageError : it cannot be written there.
        RunError, StoreError : there is no such run or store, or it is damaged.
        """
        return points(self._context, name, Path(output), map=map, images=images)

    @property
    def stores(self) -> Stores:
        """The finished stores, the one last used first; ``stores.latest()``, ``stores["part of a name"]``."""
        return Stores(self._context)

    @property
    def runs(self) -> Runs:
        """The runs, the one finished last first; ``runs.latest(2)`` is the newest but one."""
        return Runs(self._context)

    @property
    def data(self) -> DataSets:
        """The data sets that have a name; ``data.fetch(name)``, ``data.open(name_or_folder)``."""
        return DataSets(self._context)

    def __repr__(self) -> str:
        stores, runs = count_of(len(self.stores), "store"), count_of(len(self.runs), "run")
        return f"<Workspace {self.home}: {stores}, {runs}>"

    def _repr_html_(self) -> str:
        return f"<div><strong>Workspace {escape(str(self.home.resolve()))}</strong></div>" + "".join(
            listed._repr_html_() for listed in (self.stores, self.runs)
        )
