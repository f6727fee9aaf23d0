"""A graph is named in one place, and a graph of one's own needs no place at all: an import path will do."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.errors import UserError
from lensgraph.graphs import table
from lensgraph.graphs.asking import AskGraph
from lensgraph.graphs.program.main import main
from lensgraph.rl.__main__ import main as rl

TURNS = ["<answer>1987</answer>"]


@pytest.fixture
def own(repository: Path, tmp_path: Path) -> Path:
    """A folder with `look_first.py`, as the how-to shows it: always an image search, then as the policy likes."""
    how_to = (repository / "graphs/howto/graph.md").read_text("utf-8")
    block = re.search(r"^```python\n# look_first.py\n(.*?)^```$", how_to, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    (tmp_path / "look_first.py").write_text(block[1], encoding="utf-8")
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "picture.png")
    return tmp_path


def test_studio_lists_the_graphs_of_the_table(repository: Path) -> None:
    listed = json.loads((repository / "langgraph.json").read_text("utf-8"))["graphs"]
    assert listed == {
        name: {"path": f"./graphs/{row.module.rpartition('.')[2]}.py:graph", "description": row.summary}
        for name, row in table.GRAPHS.items()
    }


@pytest.mark.parametrize("name", table.GRAPHS)
def test_every_row_is_a_compiled_graph_with_threads_and_known_tools(name: str) -> None:
    assert table.find(name).name == name
    built = table.build(name, InMemorySaver())
    assert isinstance(built, AskGraph) and built.checkpointer is not None
    assert set(table.tools_of(name)) <= set(table.ALL_TOOLS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "graph=nothing: use one of direct, rag, search_agent, or package.module:attribute"),
        (
            "nowhere:graph",
            "graph=nowhere:graph: No module named 'nowhere'; give package.module:attribute of a compiled",
        ),
        ("json:graph", "graph=json:graph: module 'json' has no attribute 'graph'; give package.module:attribute"),
        ("json:dumps", "graph=json:dumps is a function, not a compiled graph; call compile() on it"),
    ],
)
def test_what_is_no_graph_is_one_line_with_the_fix(name: str, message: str, capsys: Any) -> None:
    with pytest.raises(UserError) as caught:
        table.find(name)
    assert str(caught.value).startswith(message)
    assert main(["config", f"graph={name}"]) == 2
    assert capsys.readouterr().err.startswith(f"lensgraph config: {message}")


def test_a_graph_of_ones_own_keeps_threads_and_no_bytes(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(own))
    saver = InMemorySaver()
    graph = table.build("look_first:graph", saver)
    assert isinstance(graph, AskGraph) and table.find("look_first:graph").checkpointer is None
    context, thread = testing.context(TURNS), {"configurable": {"thread_id": "a"}}
    data = (own / "picture.png").read_bytes()
    result = graph.invoke({"question": "When?", "images": [data]}, thread, context=context)
    assert (result["answer"], result["usage"]["searches"]) == ("1987", {"image": 1, "text": 0})
    assert [step["node"] for step in result["steps"]] == ["image_search", "reason"]
    kept = pickle.dumps([dict(saver.blobs), {key: dict(writes) for key, writes in saver.writes.items()}])
    assert b"When?" in kept and data not in kept
    assert table.tools_of("look_first:graph") == table.ALL_TOOLS


def test_the_program_asks_a_graph_of_ones_own(own: Path) -> None:
    (own / "settings.yaml").write_text(
        json.dumps(
            {
                "graph": "look_first:graph",
                "policy": {"kind": "lensgraph.agent.policy.scripted:ScriptedPolicy", "options": {"turns": TURNS}},
                "tools": {
                    "text_search": "lensgraph.agent.testing:FixedText",
                    "image_search": "lensgraph.agent.testing:FixedImage",
                    "locate": "lensgraph.agent.testing:FixedLocator",
                },
            }
        )
    )
    command = ["-m", "lensgraph", "ask", "picture.png", "When?", "--json", "--config", "settings.yaml"]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=own, timeout=120, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (json.loads(done.stdout)["answer"], json.loads(done.stdout)["turns"]) == ("1987", 1)


def test_an_evaluation_takes_a_graph_of_ones_own(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its argument is checked as the program checks its own."""
    from lensgraph.rl.rollout.deciders import deciders

    monkeypatch.syspath_prepend(str(own))
    assert deciders("look_first:graph")[0] == "reason"
    assert {"look", "receive"} <= set(deciders("look_first:graph"))
    settings = [
        "policy.kind=lensgraph.agent.policy.scripted:ScriptedPolicy",
        f"policy.options={json.dumps({'turns': TURNS})}",
    ]
    fixed = [
        "tools.text_search=lensgraph.agent.testing:FixedText",
        "tools.image_search=lensgraph.agent.testing:FixedImage",
    ]
    assert rl(["evaluate", "--graph", "look_first:graph", "--limit", "1", *settings, *fixed]) in (0, 1)
