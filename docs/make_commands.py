"""Write docs/commands.md from the help of every command: ``python docs/make_commands.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from probe.cli import cli

PAGE = Path(__file__).parent / "commands.md"
WIDTH = 100


def page() -> str:
    """The whole reference as Markdown."""
    head = "# Commands\n\nMade from the help by `python docs/make_commands.py`; a test keeps it true.\n"
    return head + "".join(_sections(cli, "probe", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    settings = {**command.context_settings, "max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    path = context.command_path
    yield f"\n## `{path}`\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _sections(found, child, context)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
