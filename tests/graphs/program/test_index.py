"""`lensgraph index` and `search`: they name the index in full, list what was not read, and refuse what cannot be asked."""

import json
from pathlib import Path

import pytest

from lensgraph.graphs.program.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("a lighthouse")
    return tmp_path / "docs"


def test_the_index_is_named_in_full(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration that is printed is used from other folders, too."""
    assert main(["index", "docs", "--out", "idx"]) == 0
    assert json.dumps(str(folder.parent.resolve() / "idx")) in capsys.readouterr().out


def test_files_of_other_kinds_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.csv", "c.CSV", "d.docx", "README", ".hidden"):
        (folder / name).write_text("x")
    (folder / "link.txt").symlink_to(folder / "a.txt")
    assert main(["index", "docs", "--out", "idx"]) == 0
    said = capsys.readouterr()
    assert "not read: 2 .csv, 1 .docx, 1 link, 1 without an ending; read are .bmp, " in said.err
    assert "1 files indexed, 0 unchanged, 0 removed, 0 skipped" in said.out


@pytest.mark.parametrize("k", ["0", "-3"])
def test_a_number_of_results_that_makes_no_sense(folder: Path, capsys: pytest.CaptureFixture[str], k: str) -> None:
    assert main(["index", "docs", "--out", "idx"]) == 0
    capsys.readouterr()
    assert main(["search", "idx", "--text", "lighthouse", "-k", k]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert (
        said.err == f"lensgraph search: tools.text_search (local): k={k}: Input should be greater than or equal to 1\n"
    )
