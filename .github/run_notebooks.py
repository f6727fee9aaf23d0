"""Runs the notebooks from top to bottom and keeps their outputs: `python .github/run_notebooks.py [NAME ...]`.

Needs the packages of the extra `test`. Kept are printed text and the values of cells. Progress bars, logs and warnings are not,
because they hold times and paths of one machine; so a run changes a notebook only where the package's answers change.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CELL_SECONDS = 600  # the longest cell trains for two steps


def run(path: Path, folder: Path = NOTEBOOKS) -> Any:
    """The notebook with the outputs of a fresh kernel that was started in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()  # fmt: skip
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if kept(one)]
    return notebook


def kept(output: Any) -> bool:
    """Whether an output is text that was printed or the value of a cell; rich draws its bars as displayed data.

    A picture is kept as PNG only: IPython adds it once more as JPEG.
    """
    if output.output_type == "execute_result" and "image/png" in output.data:
        output.data.pop("image/jpeg", None)
    return output.output_type == "execute_result" or output.get("name") == "stdout"


def main() -> None:
    """Run those named, or all."""
    names = sys.argv[1:] or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        nbformat.write(run(path), path)
        print(f"{path.relative_to(NOTEBOOKS.parent)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
