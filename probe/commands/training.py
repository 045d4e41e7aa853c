"""Options of the commands that train from scratch, each defined once."""

from __future__ import annotations

import click

from probe.commands.options import note

data_option = click.option(
    "--data",
    metavar="DATASET",
    help="Other data: a name, a folder or an .npz; classes and channels adapt.  [default: the recipe's own]",
)
epochs_option = click.option(
    "--epochs", type=click.IntRange(min=1), help="At most N epochs.  [default: as the recipe says]"
)
seeds_option = click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings, seeds 0 … N−1."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Mixed precision; auto: bf16 where the CPU has it, fp16 on a GPU, else fp32.",
)


def say_precision(asked: str, quiet: bool) -> str:
    """The precision to train in; says why."""
    from probe.backbones import choose_precision

    chosen, reason = choose_precision(asked)
    note(f"precision {chosen}: {reason}", quiet)
    return chosen
