"""`lensgraph ask --approve`: the person at the terminal approves, edits or rejects a call."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lensgraph.agent.errors import UserError
from lensgraph.graphs.program import reviewing
from lensgraph.graphs.program.main import main

TURNS = ["<img_search>the tower</img_search>", "<text_search>kestrel</text_search>", "<answer>1987</answer>"]


def edited(name: str, **args: Any) -> Any:
    return {"type": "edit", "edited_action": {"name": name, "args": args}}


CALL = {"name": "text_search", "args": {"query": "kestrel"}, "description": "Search by text: kestrel \x1b[2J"}
REGION = {
    "name": "image_search",
    "args": {"region": "the tower", "box": [1, 2, 3, 4], "picture": "a"},
    "description": "d",
}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    policy = {"kind": "lensgraph.agent.policy.scripted:ScriptedPolicy", "options": {"turns": TURNS}}
    tools = {
        kind: {"use": f"lensgraph.agent.testing:Fixed{name}"}
        for kind, name in (("text_search", "Text"), ("image_search", "Image"), ("locate", "Locator"))
    }
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"policy": policy, "tools": tools}))
    return path


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


@pytest.mark.parametrize(
    ("call", "lines", "decision"),
    [
        (CALL, ["a"], {"type": "approve"}),
        (CALL, ["", "what", "Approve"], {"type": "approve"}),
        (CALL, ["r", "no"], {"type": "reject", "message": "no"}),
        (CALL, ["edit", "light"], edited("text_search", query="light")),
        (REGION, ["e", "0, 1,20,30"], edited("image_search", box=[0, 1, 20, 30])),
        (REGION, ["e", "a, b, c, d"], edited("image_search", region="a, b, c, d")),
        (REGION, ["e", ""], edited("image_search", region=None)),
    ],
)  # fmt: skip
def test_what_is_typed_becomes_a_decision(
    call: Any, lines: list[str], decision: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, *lines)
    assert reviewing.decide({"action_requests": [call]}) == decision
    said = capsys.readouterr()
    assert said.out == "" and "\x1b" not in said.err, "a policy's text sets no colours"


@pytest.mark.parametrize(("typed", "value"), [('{"a": 1}', {"a": 1}), ("german", "german")])
def test_a_tools_own_question_takes_json_or_text(typed: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, typed)
    assert reviewing.decide("in which language?") == value


def test_where_nobody_answers_nothing_is_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch)
    with pytest.raises(UserError, match="the input has ended"):
        reviewing.decide({"action_requests": [CALL]})


def test_every_call_is_asked_about_and_a_decision_that_cannot_be_used_again(
    repository: Path, settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, "e", "0,0,9000,9000", "e", "0,0,40,30", "r", "use a book")
    approve = ["--approve", "image_search", "--approve", "text_search"]
    picture = str(repository / "notebooks/flags.png")
    code = main(["ask", picture, "When?", "--json", *approve, "--config", str(settings)])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert json.loads(said.out)["searches"] == {"image": 1, "text": 0}
    assert "box must lie within the" in said.err and said.err.count("approve, edit or reject?") == 3
    assert "Search by picture: the tower" in said.err and "box 8,8,24,24, 16x16 pixels" in said.err


def test_without_a_terminal_it_is_one_line_and_exit_2(
    repository: Path, settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch)
    picture = str(repository / "notebooks/flags.png")
    assert main(["ask", picture, "When?", "--approve", "text_search", "--config", str(settings)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("answer at a terminal, or ask for no approval")


def test_a_wrong_name_of_a_call_lists_the_valid_ones(
    repository: Path, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(repository / "notebooks/flags.png")
    assert main(["ask", picture, "When?", "--approve", "search", "--config", str(settings)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "text_search" in said
