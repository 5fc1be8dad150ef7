"""Runs a notebook's code cells, as Jupyter does, and prints what they display."""

import ast
import json
from pathlib import Path
from typing import Any


def cells(notebook: Path, kind: str) -> list[str]:
    """The sources of all cells of a kind: code or markdown."""
    content = json.loads(notebook.read_text("utf-8"))
    return ["".join(c["source"]) for c in content["cells"] if c["cell_type"] == kind]


def display(value: Any) -> None:
    """A stand-in for that of IPython: a picture by its first bytes, anything else by its repr."""
    if hasattr(value, "_repr_png_"):
        print(f"displayed {value._repr_png_()[:4]!r}: {value!r}")
    elif value is not None:
        print(f"displayed: {value!r}")


def run_cell(source: str, space: dict[str, Any]) -> None:
    """Run a cell; a last line that is an expression is displayed."""
    *lines, last = ast.parse(source).body
    if isinstance(last, ast.Expr):
        shown = ast.Expression(last.value)
        exec(compile(ast.Module(lines, []), "cell", "exec"), space)
        display(eval(compile(shown, "cell", "eval"), space))
    else:
        exec(compile(source, "cell", "exec"), space)


def run(notebook: Path) -> None:
    """All cells, one after the other."""
    names: dict[str, Any] = {"display": display, "__name__": "__main__"}
    for code in cells(notebook, "code"):
        run_cell(code, names)
