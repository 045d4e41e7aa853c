"""A real kernel of Jupyter, as a notebook has it: bars are widgets, results are HTML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.shell import PHOTOS, PROJECT

VIEW = "application/vnd.jupyter.widget-view+json"
MODEL = "IPY_MODEL_"
TIMEOUT_S = 120

Content = dict[str, Any]


class Notebook:
    """Runs cells in a kernel, and takes what the last one sent to its page."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sent: list[tuple[str, Content]] = []

    def __call__(self, code: str) -> str:
        """The HTML of the cell's last value, empty where it has none."""
        self._sent = []
        reply = self._client.execute_interactive(code, timeout=TIMEOUT_S, output_hook=self._take)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(sent["data"].get("text/html", "") for sent in self._of("execute_result"))

    def bars(self) -> list[str]:
        """What stands before each bar that was shown as a widget, as it was at last."""
        states = {opened["comm_id"]: dict(opened["data"]["state"]) for opened in self._of("comm_open")}
        for told in self._of("comm_msg"):
            states[told["comm_id"]].update(told["data"].get("state", {}))
        shown = [states[display["data"][VIEW]["model_id"]] for display in self._of("display_data")]
        return [states[bar["children"][0].removeprefix(MODEL)]["value"] for bar in shown]

    def _take(self, message: Content) -> None:
        self._sent.append((message["msg_type"], message["content"]))

    def _of(self, kind: str) -> list[Content]:
        return [content for found, content in self._sent if found == kind]


@pytest.fixture
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    from jupyter_client.manager import KernelManager

    folder = tmp_path_factory.mktemp("kernel")
    # Sockets are files here: no port is opened.
    manager = KernelManager(transport="ipc", ip=str(folder / "socket"))
    manager.start_kernel(cwd=str(folder))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT_S)
        yield Notebook(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_a_notebook_shows_bars_and_tables_and_imports_no_tensorflow(notebook: Notebook) -> None:
    notebook(f"import sys; sys.path.insert(0, {str(PROJECT)!r})")
    store = notebook(
        "import probe\n"
        "w = probe.Workspace('home')\n"
        f"store = w.extract({str(PHOTOS)!r}, backbone='pixels', size=4)\n"
        "store"
    )
    assert "<strong>Store photos-pixels-" in store
    assert any(bar.startswith("extract:") for bar in notebook.bars())
    run = notebook("run = w.fit('logreg', store, c=[1.0])\nrun")
    assert "-logreg-photos-pixels</strong>" in run
    (bar,) = notebook.bars()
    assert bar.startswith("fit")
    assert "<th>test accuracy (95 %)</th>" in notebook("w.runs")
    notebook("assert not {'tensorflow', 'keras'} & set(sys.modules)")
