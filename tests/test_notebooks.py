"""The notebooks run from the first cell to the last, and are kept with what they print."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NOTEBOOKS = ["tour", "embedding"]
LARGEST = 100_000  # bytes of a notebook with its outputs: one small picture and text


@pytest.fixture(scope="module")
def runner(repository: Path) -> ModuleType:
    """The script that runs the notebooks; it lies outside the package."""
    spec = importlib.util.spec_from_file_location("run_notebooks", repository / ".github" / "run_notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(path: Path) -> list[Any]:
    """A notebook's code cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell: Any) -> str:
    """The text that a cell printed or returned; of a picture nothing."""
    texts = [output.get("text") or output["data"].get("text/plain", "") for output in cell["outputs"]]
    return "".join("".join(text) for text in texts)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(repository: Path, runner: ModuleType, name: str) -> None:
    """It prints where the kept one prints; the words may differ, since two machines may round otherwise."""
    path = repository / "notebooks" / f"{name}.ipynb"
    now = [cell for cell in runner.run(path).cells if cell.cell_type == "code"]
    kept = code_cells(path)
    assert [bool(cell.outputs) for cell in now] == [bool(cell["outputs"]) for cell in kept]
    assert printed(now[1 if name == "tour" else 0]).startswith("Nairobi")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_uses_names_that_exist(repository: Path, name: str) -> None:
    """Cheap, so that an API change is told by the default suite: every imported name is there."""
    for cell in code_cells(repository / "notebooks" / f"{name}.ipynb"):
        source = "".join(cell["source"])
        tree = compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] != "PIL":
                module = __import__(node.module, fromlist=[alias.name for alias in node.names])
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lensgraph":
                assert hasattr(__import__("lensgraph"), node.attr)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_with_its_outputs(repository: Path, name: str) -> None:
    path = repository / "notebooks" / f"{name}.ipynb"
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))  # one run, in order
    assert [cell["id"] for cell in cells if not cell["outputs"]] == []
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_holds_nothing_of_the_machine_that_ran_it(repository: Path, name: str) -> None:
    path = repository / "notebooks" / f"{name}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}  # no version
    for cell in code_cells(path):
        assert cell["metadata"] == {}  # no times
        assert {output["output_type"] for output in cell["outputs"]} <= {"stream", "execute_result"}
        text = printed(cell)
        assert not re.search(r"/home/|/root|/tmp|/Users|[A-Z]:\\|site-packages|Traceback|\x1b", text), cell["id"]
