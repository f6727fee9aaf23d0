"""The terminal while a question is answered."""

import ast
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from lensgraph.agent import config as configuration
from lensgraph.agent import testing
from lensgraph.agent.actions import KINDS
from lensgraph.agent.dialects.table import DIALECTS
from lensgraph.agent.limits import StopReason
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import search_agent
from lensgraph.graphs.program import show
from lensgraph.graphs.program.main import main
from lensgraph.graphs.program.show import Show
from lensgraph.tools.results import Hit

TURNS = [
    "<reason>A tower I cannot name.</reason><img_search>the white tower</img_search>",
    "<text_search>kestrel automated</text_search>",
    "<answer>1987</answer>",
]


async def shown(turns: list[str], *, raw: bool = False, **fields: Any) -> str:
    context = testing.context(turns, **fields)
    given = {"question": "When?", "images": [Image.new("RGB", (64, 48))]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    out = io.StringIO()
    screen = Show(Console(file=out, width=200, force_terminal=False, highlight=False), raw=raw)
    for step in state["steps"]:
        screen.step({**step, "seconds": 0.25})
    screen.end(state)
    return out.getvalue()


async def test_a_run_shows_thought_action_box_results_time_answer_sources_and_cost() -> None:
    lines = (await shown(TURNS)).splitlines()
    assert lines[:-1] == [
        "turn 1  0.25 s",
        "  thought          A tower I cannot name.",
        "  search by image  the white tower",
        "  cropped          box 8,8 to 24,24  0.25 s",
        "  found            1. Kestrel Point Light  0.90  0.25 s",
        "turn 2  0.25 s",
        "  search by text   kestrel automated",
        "  found            1. Kestrel Point Light  0.90  0.25 s",
        "turn 3  0.25 s",
        "",
        "answer  1987",
        "source  Kestrel Point Light  https://example.org/kestrel  turn 1",
    ]
    assert lines[-1].startswith("cost    3 turns, 1 image search, 1 text search, 0.")


async def test_failures_and_a_missing_answer_are_said() -> None:
    turns = ["<img_search>the tower</img_search>", "<text_search>q</text_search>", "garbage"]
    said = await shown(turns, locate=testing.FixedLocator(box=None), text_search=testing.FixedText(hits=[]))
    assert "failed           empty: Nothing in the picture matches" in said
    assert "failed           unavailable: the text search is down" in said
    assert "unreadable turn  the turn does not end in an action" in said
    assert "no answer  malformed" in said


async def test_an_action_over_a_limit_is_shown_with_the_limit() -> None:
    search = "<text_search>q</text_search>"
    said = await shown([search], config=configuration.load_config(overrides=["limits.turns=1"], environ={}))
    assert "  no turn left     q\n" in said
    said = await shown(
        [search, "<answer>x</answer>"],
        config=configuration.load_config(overrides=["limits.text_searches=0"], environ={}),
    )
    assert "  no search left   q\n" in said


def test_every_label_fits_its_column_and_every_action_and_limit_has_one() -> None:
    assert all(len(label) < show.LABEL for label in [*show.ACTIONS.values(), *show.OVER.values()])
    assert {*show.ACTIONS, "over_limit"} == set(KINDS)
    assert set(show.OVER) == {str(reason) for reason in StopReason if reason.endswith("_limit")}


async def test_a_page_cannot_write_to_the_terminal() -> None:
    hostile = Hit(title="\x1b]0;owned\x07\x1b[31mred [bold]x[/bold]\nturn 9", url="https://example.org/\x1b[2J")
    said = await shown(
        ["<text_search>q</text_search>", "<answer>\x1b[2Jx</answer>"], text_search=testing.FixedText(hits=[hostile])
    )
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "[bold]x[/bold]" in said, "and markup is text"
    assert "\nturn 9" not in said


def test_turns_are_streamed_while_the_graph_runs(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    order: list[str] = []
    step = Show.step
    monkeypatch.setattr(Show, "step", lambda self, record: (order.append(record["node"]), step(self, record)))
    search = testing.FixedImage.asearch

    async def recorded(self: Any, image: Any) -> Any:
        order.append("(image search runs)")
        return await search(self, image)

    monkeypatch.setattr(testing.FixedImage, "asearch", recorded)
    assert main(["ask", str(tmp_path / "a.png"), "What?", "--config", str(settings)]) == 0
    assert order == ["reason", "(image search runs)", "image_search", "reason"]
    assert "answer  1987" in capsys.readouterr().out


@pytest.mark.parametrize(("graph", "code", "searches"), [("direct", 1, (0, 0)), ("rag", 0, (1, 1))])
def test_the_baselines_can_be_asked_too(
    graph: str, code: int, searches: tuple[int, int], settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script's first turn is a search: the direct baseline does not carry it out."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    command = ["ask", str(tmp_path / "a.png"), "What?", "--json", "--config", str(settings), f"graph={graph}"]
    assert main(command) == code
    found = json.loads(capsys.readouterr().out)["searches"]
    assert (found["image"], found["text"]) == searches


MALFORMED = {
    "compact": "no tag\n\x1b[2J and \u202e<answer>half",
    "mmsearch_r1": "no tag\n\x1b[2J and \u202e<answer>half",
    "deepmmsearch_r1": "no tag\n\x1b[2J and \u202e<answer>half",
    "tools": '<tool_call>\n{"name": "\x1b[2J\u202e"}\n</tool_call>',
}


@pytest.mark.parametrize("dialect", list(DIALECTS))
async def test_what_a_malformed_turn_said_is_shown_on_request(dialect: str) -> None:
    """As it was said, quoted: it can neither move the cursor nor turn the text around."""
    turns = [MALFORMED[dialect], "<tool_call>"]
    config = configuration.load_config(None, [f"dialect.name={dialect}", "limits.turns=2"])
    said = await shown(turns, dialect=dialect, raw=True, config=config)
    assert "unreadable turn" in said
    [line] = [line for line in said.splitlines() if line.strip().startswith("it said") and "2J" in line]
    assert ast.literal_eval(line.partition("it said")[2].strip()) == MALFORMED[dialect]
    assert "\x1b" not in said and "\u202e" not in said
    assert "it said" not in await shown(turns, dialect=dialect, config=config)


def test_the_json_holds_what_malformed_turns_said(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    command = ["ask", str(tmp_path / "a.png"), "What?", "--json", "--config", str(settings)]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["malformed"] == []
    assert main([*command, 'policy.options.turns=["I think it is 1987"]']) == 1
    [found] = json.loads(capsys.readouterr().out)["malformed"]
    assert found == {"turn": 1, "reason": "the turn does not end in an action", "text": "I think it is 1987"}
