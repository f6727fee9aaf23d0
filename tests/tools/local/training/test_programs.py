"""The programs that remake the embedder's weights are named, and say in one line what they miss."""

from __future__ import annotations

import pytest

from lensgraph.tools.local.training import __main__ as programs


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_a_program_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="needs lensgraph[hub]")
    with pytest.raises(SystemExit) as stop:
        programs.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: python -m lensgraph.tools.local.training {name} " in capsys.readouterr().out


def test_a_missing_package_is_one_line_with_the_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(programs, "import_module", missing)
    assert programs.main(["fit"]) == 2
    said = "python -m lensgraph.tools.local.training fit: needs torch: pip install '.[hub,world]' in a clone of LensGraph\n"
    assert capsys.readouterr().err == said


def test_an_unknown_program_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert programs.main([]) == programs.main(["train"]) == 2
    assert "unknown program 'train'; valid: fit, head" in capsys.readouterr().err
