"""Tests of caviar/reporting/plots/text.py."""

from caviar.reporting.plots.text import escape, label, wrap


def test_markup_templates_and_formulas_are_escaped() -> None:
    assert escape("<b>&") == "&lt;b&gt;&amp;"
    assert "%{" not in escape("%{x}")
    assert "$" not in escape("$x$")


def test_line_breaks_and_control_characters_do_not_survive() -> None:
    assert escape("one\ntwo\x1b[2J").isprintable()


def test_long_text_is_cut() -> None:
    assert escape("a" * 100, most=10) == "a" * 9 + "…"


def test_names_become_titles() -> None:
    assert label("learning_rate") == "learning rate"


def test_notes_are_wrapped() -> None:
    assert max(map(len, wrap("word " * 50, 54))) <= 54
