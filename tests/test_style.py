"""The prose of the code: docstrings begin as documentation does, units are in names, test names are short."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import caviar

PACKAGE = Path(caviar.__file__).parent
TESTS = Path(__file__).parent
FORBIDDEN_OPENINGS = frozenset(
    {
        "What",
        "Where",
        "Whether",
        "How",
        "Of",
        "So",
        "That",
        "Those",
        "When",
        "Which",
        "Whom",
        "Who",
        "Whose",
        "Why",
    }
    | {"If", "As", "From", "Likewise", "And", "Or", "But", "Nothing"}
)
"""Words that no docstring begins with."""
ARTICLES = frozenset({"A", "An", "The", "It", "Its", "This", "These", "There", "Their", "They"})
"""Words that begin a noun phrase; a function's docstring begins with a verb instead."""
VERBS_IN_S = frozenset(
    {"Pass", "Process", "Address", "Compress", "Guess", "Discuss", "Focus", "Miss", "Access"}
)
"""Verbs whose imperative ends in s."""
MAX_WORDS_OF_A_TEST = 10
UNITS = {
    re.compile(r"\bseconds?\b", re.IGNORECASE): ("_s",),
    re.compile(r"\bbytes\b", re.IGNORECASE): ("_bytes", "bytes", "_size"),
    re.compile(r"\bGiB\b"): ("_gib",),
    re.compile(r"\bMiB\b"): ("_mib",),
}
"""Units that a numeric field's docstring may open with, and the endings of names that say so."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def opening(docstring: str) -> str:
    """Return the first word."""
    found = re.match(r"[\W_]*([\w-]+)", docstring)
    return found[1] if found else ""


def is_property(node: ast.AST) -> bool:
    names = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
    return any(name.endswith(("property", ".setter")) for name in names)


@cache
def docstrings(path: Path) -> list[tuple[ast.AST, str]]:
    """Return the docstrings of modules, classes, functions, fields and constants."""
    return list(_docstrings(parse(path)))


def _docstrings(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (docstring := ast.get_docstring(node)):
            yield node, docstring
        body = getattr(node, "body", [])
        for field, after in pairwise(body) if isinstance(body, list) else ():
            is_field = isinstance(field, ast.Assign | ast.AnnAssign)
            if is_field and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                yield field, str(after.value.value)


@pytest.mark.parametrize("path", sources(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_open_as_documentation_does(path: Path) -> None:
    wrong = []
    for node, docstring in docstrings(path):
        word = opening(docstring)
        is_wrong = word in FORBIDDEN_OPENINGS
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_property(node):
            is_verb = not word.endswith("s") or word in VERBS_IN_S
            is_wrong |= word in ARTICLES or not is_verb or not word[:1].isupper()
        if is_wrong:
            wrong.append(f"line {getattr(node, 'lineno', 1)}: {docstring.splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


def numeric_fields(path: Path) -> Iterator[tuple[str, str]]:
    """Yield names and docstrings of fields and constants that hold numbers."""
    for node, docstring in docstrings(path):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if re.match(r"(int|float)\b", ast.unparse(node.annotation)):
                yield node.target.id, docstring
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value.operand if isinstance(node.value, ast.UnaryOp) else node.value
            if isinstance(value, ast.Constant) and type(value.value) in (int, float):
                yield node.targets[0].id, docstring


@pytest.mark.parametrize("path", sources(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_numbers_with_a_unit_name_it(path: Path) -> None:
    for name, docstring in numeric_fields(path):
        for unit, endings in UNITS.items():
            if unit.match(docstring):
                assert name.lower().endswith(endings), f"{name}: {docstring}"


@pytest.mark.parametrize("path", sources(TESTS), ids=lambda path: str(path.relative_to(TESTS)))
def test_names_of_tests_are_short_sentences(path: Path) -> None:
    long = [
        node.name
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if len(node.name.removeprefix("test_").split("_")) > MAX_WORDS_OF_A_TEST
    ]
    assert not long, "\n".join(long)
