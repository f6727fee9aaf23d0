"""The tour runs from the first cell to the last, as a reader would run it: top-level `await` included."""

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


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.e2e
def test_the_tour_runs_from_top_to_bottom(repository: Path) -> None:
    cells = code_cells(repository / "notebooks" / "tour.ipynb")
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


def test_the_tour_uses_names_that_exist(repository: Path) -> None:
    """Cheap, so that an API change is told by the default suite: every imported name is there."""
    for source in code_cells(repository / "notebooks" / "tour.ipynb"):
        tree = compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] != "PIL":
                module = __import__(node.module, fromlist=[alias.name for alias in node.names])
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
