"""A file that is damaged is noticed, or makes no difference: a sample of what ``make faults`` tries."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from probe.errors import ProbeError, UsageError
from probe.networks.notation import parse
from probe.order import places_back
from probe.studies.baselines import BASELINES
from probe.studies.sweep import parse_grid, plan
from tests.faults.damage import DRAWING, HARMLESS, NEVER_GIVEN, NOTICED, Damaged
from tests.faults.fuzz import FEWEST, in_a_process
from tests.faults.processes import LOADED, Processes
from tests.faults.works import make_pictures

SECONDS = 4
TRIED = 40
"""Damages, of all files and by all commands: the others take minutes."""
DIGITS = 5000 * "9"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    folder = tmp_path_factory.mktemp("damaged")
    with Processes(loaded=(*LOADED, *DRAWING)) as run:
        yield Damaged(folder, make_pictures(folder), run)


def test_damage_is_noticed_or_harmless(damaged: Damaged) -> None:
    wrong = {}
    for case, name in random.Random(1).sample(damaged.pairs(), TRIED):
        verdict = damaged.judge(case, name)
        if verdict not in (NOTICED, HARMLESS, NEVER_GIVEN):
            wrong[f"{case.damage} {case.file}: {name}"] = verdict
    assert not wrong


def test_parsers_refuse_what_was_never_written() -> None:
    found = in_a_process(SECONDS)
    assert len(found) == 15
    assert all(parser["mutants"] >= FEWEST for parser in found.values())
    assert {name: parser["findings"] for name, parser in found.items() if parser["findings"]} == {}


@pytest.mark.parametrize("start", ["C", "[C8]x", "P", "DO.", "RES8/"])
def test_a_network_of_thousands_of_digits_is_wrong_use(start: str) -> None:
    with pytest.raises(UsageError):
        parse(start + DIGITS)


@pytest.mark.parametrize("field", ["size", "batch_size", "epochs", "lr", "kernel_l2"])
def test_so_is_a_field_of_a_recipe(field: str) -> None:
    with pytest.raises(ProbeError):
        plan(BASELINES["cifar10/exp1"], parse_grid([f"{field}={DIGITS}"]))


def test_no_place_is_thousands_of_digits_back() -> None:
    assert places_back(f"latest:{DIGITS}") is None
    assert places_back("latest:3") == 3
