"""The ``probe`` program, also ``python -m probe``: it listens to signals before it imports much."""

import sys

from probe.signals import exit_code, interrupt_work, leave_at_once, leave_in_silence


def main() -> None:
    """Run the program and exit."""
    leave_at_once()
    from probe.cli import main as command_line

    try:
        interrupt_work()
        command_line()
    except KeyboardInterrupt as stop:
        sys.exit(exit_code(stop))
    finally:
        leave_in_silence()


if __name__ == "__main__":
    main()
