"""Every public name says what it does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kmslab

PACKAGE = Path(kmslab.__file__).parent
Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def without(node: ast.AST, inside: str = "") -> list[str]:
    """The public classes, functions and methods in `node` that have no docstring."""
    missing = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try):
            missing += without(child, inside)
        elif isinstance(child, Named) and not child.name.startswith("_"):
            name = f"{inside}{child.name}"
            overload = any(ast.unparse(d) == "overload" for d in child.decorator_list)
            if ast.get_docstring(child) is None and not overload:
                missing.append(name)
            if isinstance(child, ast.ClassDef):
                missing += without(child, f"{name}.")
    return missing


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "the module itself"
    assert without(tree) == []
