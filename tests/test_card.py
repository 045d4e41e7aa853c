"""The card of an exported model."""

from __future__ import annotations

from pathlib import Path

from probe.fit.card import card_text
from tests.reported import make_reported

FACTS = {
    "input": {"shape": [None, 4, 4, 3], "decoding": "a 4 × 4 picture"},
    "classes": ["<script>alert(1)</script>", "b|c", "plain"],
    "needs": ["keras"],
}


def test_figures_are_those_of_the_run_and_text_from_outside_is_no_markup(tmp_path: Path) -> None:
    made = make_reported(tmp_path)
    card = card_text(made.first, FACTS, "my_model.keras")
    scores = made.first.test
    assert f"| test | {scores.n} | {scores.accuracy:.4f} |" in card
    assert "| validation (not a test figure" in card
    assert "# my\\_model.keras" in card
    assert "<script>" not in card
    assert "b\\|c" in card
    assert "data set: " in card
    assert "made with: " in card
