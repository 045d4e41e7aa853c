"""What tests ask in a process of its own: ``python -m tests.answering``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from probe.children import answer_one


def answer(question: dict[str, Any]) -> Any:
    """The sum of ``numbers``, once what ``do`` says is done."""
    sys.stdout.write("printed\n")
    sys.stdout.flush()
    match question["do"]:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fail":
            raise ValueError("this cannot be answered")
        case "wait":
            Path(question["file"]).write_text(str(os.getpid()))
            time.sleep(600)
    return sum(question["numbers"])


if __name__ == "__main__":
    answer_one(answer)
