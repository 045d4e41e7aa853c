"""The ``probe`` program, also ``python -m probe``: it listens to signals before it imports much."""

import os
import sys

from probe.signals import exit_code, interrupt_work, leave_at_once, leave_in_silence


def main() -> None:
    """Run the program and exit."""
    leave_at_once()
    _open_streams()
    from probe.cli import main as command_line

    try:
        interrupt_work()
        command_line()
    except KeyboardInterrupt as stop:
        sys.exit(exit_code(stop))
    finally:
        leave_in_silence()


def _open_streams() -> None:
    """Let a stream that was closed before the start (``2>&-``) lead nowhere.

    The next file that is opened would get its number, and with it whatever is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
