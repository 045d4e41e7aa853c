"""What the command lines of a transfer experiment do, as the parsers of their commands read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import click

from probe.backbones import find_row
from probe.commands.rules_text import optimiser_text, plateau_text, scored_text, stops_text
from probe.commands.transfer import parse_line
from probe.config import Home
from probe.heads import HEADS
from probe.registry import load_object
from probe.studies.recipe import Recipe
from probe.workspace.finetune import tune_keywords, tune_settings

Facts = dict[str, Any]


def transfer_steps(program: click.Command, recipe: Recipe, home: Home) -> list[Facts]:
    """One record a line of `recipe.commands`, in order; each knows what it takes from the store before it.

    All have ``command``, ``backbone``, ``size`` (pixels), ``preprocess``, ``augment`` and ``views``; a line
    that trains has ``head``, and what only its command can say; one that does so by gradient steps
    ``optimiser``, ``epochs``, ``batch_size``, ``stops`` and ``keep``.
    """
    steps: list[Facts] = []
    stored: Facts = {}
    for line in recipe.commands:
        context = parse_line(program, line, home)
        name = context.command_path.split()[1]
        facts = _READERS[name](context, stored)
        steps.append({"command": name, **facts})
        if name == "extract":
            stored = facts
    return steps


def step_lines(step: Mapping[str, Any]) -> list[str]:
    """A step for people: network and pixels, head, training."""
    network = f"{step['backbone']} at {step['size']} px, {step['weights']} weights"
    seen = f"{network}, preprocessing {step['preprocess']}"
    pictures = f"augmentation {_views_text(step)}"
    if step["command"] == "extract":
        return [seen, f"stores {', '.join(step['outputs'])}; {pictures}"]
    if step["command"] == "fit":
        options = ", ".join(f"{name.replace('_', ' ')} {_value(v)}" for name, v in step["options"].items())
        lines = [f"{seen}; all frozen", f"head {step['head']}" + (f": {options}" if options else "")]
    else:
        norms = "batch normalisation trained" if step["train_bn"] else "batch normalisation as it is"
        lines = [f"{seen}; {_unfrozen_text(step)}, {norms}", f"head {_head_text(step)}"]
    return [*lines, pictures, *(_training_lines(step) if "epochs" in step else ())]


def _training_lines(step: Mapping[str, Any]) -> list[str]:
    rules = (("stops: ", stops_text(step["stops"])), ("plateau: ", plateau_text(step.get("reduce_lr"))))
    return [
        f"{optimiser_text(step['optimiser'])}, batch {step['batch_size']}, {step['epochs']} epochs at most",
        *(name + said for name, said in rules if said),
        f"scored: {scored_text(step['keep'])}",
    ]


def _extract(context: click.Context, stored: Facts) -> Facts:
    chosen = context.params
    row = find_row(chosen["backbone"])
    return {
        "backbone": row.name,
        "weights": chosen["weights"],
        "size": chosen["size"] or row.size,
        "preprocess": chosen["preprocess"] or row.preprocess,
        "outputs": chosen["outputs"].split(",") if chosen["outputs"] else [row.default_output],
        "views": chosen["views"],
        "augment": chosen["augment"] if chosen["views"] else "none",
    }


def _fit(context: click.Context, stored: Facts) -> Facts:
    chosen = context.params
    own = set(load_object(HEADS[context.command.name or ""].options).__dataclass_fields__)
    own -= {"learning_rate", "batch_size", "epochs", "patience", "seed", "seeds", "class_weight"}
    if chosen.get("hidden") == ():
        own -= {"dropout", "batch_norm"}  # of hidden units, of which there are none
    return {
        **{name: stored[name] for name in ("backbone", "weights", "size", "preprocess")},
        "views": chosen["views"],
        "augment": stored["augment"] if chosen["views"] else "none",
        "head": context.command.name,
        "options": {name: value for name, value in chosen.items() if name in own},
        **(_head_training(chosen) if "learning_rate" in chosen else {}),
    }


def _head_training(chosen: Mapping[str, Any]) -> Facts:
    """Of heads trained by gradient steps: by Adam, the weights of the lowest validation loss kept."""
    return {
        "optimiser": {"name": "adam", "lr": chosen["learning_rate"]},
        "epochs": chosen["epochs"],
        "batch_size": chosen["batch_size"],
        "stops": [{"monitor": "val_loss", "patience": chosen["patience"]}],
        "keep": "val_loss",
    }


def _finetune(context: click.Context, stored: Facts) -> Facts:
    chosen = context.params
    row = find_row(chosen["backbone"] or stored["backbone"])
    settings = asdict(tune_settings(tune_keywords(chosen), chosen["trunk"]))
    same = (
        *("trunk", "unfreeze", "freeze", "train_bn", "head", "head_epochs", "head_lr"),
        *("optimiser", "epochs", "batch_size", "reduce_lr", "clip", "balanced", "views", "seed"),
    )
    return {
        "backbone": row.name,
        "weights": chosen["weights"] or stored.get("weights", "imagenet"),
        "size": chosen["size"] or stored.get("size") or row.size,
        "preprocess": chosen["preprocess"] or stored.get("preprocess") or row.preprocess,
        "augment": chosen["augment"],
        **{name: settings[name] for name in same},
        "stops": list(settings["stops"]),
        "keep": settings["keep"] or "val_loss",
    }


_READERS: Mapping[str, Callable[[click.Context, Facts], Facts]] = {
    "extract": _extract,
    "fit": _fit,
    "finetune": _finetune,
}


def _views_text(step: Mapping[str, Any]) -> str:
    if step["augment"] == "none":
        return "none"
    return f"{step['augment']}, " + (
        f"{step['views']} stored views" if step["views"] else "new in every epoch"
    )


def _unfrozen_text(step: Mapping[str, Any]) -> str:
    """``all trained``, ``first 10 layers frozen``, ``trained from block3 on, cut off at block3_pool``."""
    which = step["freeze"] or step["unfreeze"] or "none"
    kind, _, count = which.partition(":")
    said = {
        "none": "all frozen",
        "all": "all trained",
        "last": f"last {count} layers trained" if count.isdigit() else f"trained: {which}",
        "first": f"first {count} layers frozen",
    }.get(kind, f"trained from {which} on")
    return said + (f", cut off at {step['trunk']}" if step["trunk"] else "")


def _head_text(step: Mapping[str, Any]) -> str:
    text = step["head"] or "straight from pooled features"
    if not step["head_epochs"]:
        return f"{text}, from a random start"
    if step["head"] is None:
        return f"{text}, started as logistic regression"
    return f"{text}, trained alone first: {step['head_epochs']} epochs of adam lr {step['head_lr']:g}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value)
