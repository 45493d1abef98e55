"""Every public name says what it does."""

from __future__ import annotations

import ast
from pathlib import Path

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


def test_public_names_have_docstrings() -> None:
    missing = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        found = without(tree)
        if tree.body and not ast.get_docstring(tree):
            found.append("the module itself")
        if found:
            missing[str(path.relative_to(PACKAGE))] = found
    assert missing == {}
