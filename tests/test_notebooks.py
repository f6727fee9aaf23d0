"""Each notebook runs from the first cell to the last, as a reader would run it: top-level `await` included."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = """
import ast, asyncio, inspect, json, sys
cells = json.loads(sys.stdin.read())
names = {"__name__": "__main__"}
loop = asyncio.new_event_loop()
for number, source in enumerate(cells):
    code = compile(source, f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(code, names)
    if inspect.iscoroutine(waiting):
        loop.run_until_complete(waiting)
    print(f"--- cell {number} done")
"""


NOTEBOOKS = ["tour", "embedding"]


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(repository: Path, name: str) -> None:
    cells = code_cells(repository / "notebooks" / f"{name}.ipynb")
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUNNER],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        cwd=repository / "notebooks",
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == len(cells)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_uses_names_that_exist(repository: Path, name: str) -> None:
    """Cheap, so that an API change is told by the default suite: every imported name is there."""
    for source in code_cells(repository / "notebooks" / f"{name}.ipynb"):
        tree = compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] != "PIL":
                module = __import__(node.module, fromlist=[alias.name for alias in node.names])
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_without_its_outputs(repository: Path, name: str) -> None:
    path = repository / "notebooks" / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert path.stat().st_size < 32_000
