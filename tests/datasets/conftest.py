"""The prepare scripts as modules."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "datasets"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts as modules, found as Python finds them when it runs one."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = [file.stem for file in sorted(SCRIPTS.glob("prepare_*.py"))]
    return {name: importlib.import_module(name) for name in names}
