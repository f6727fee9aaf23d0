"""The command line on the embedded world: real tools, real pages, a scripted policy in place of the pocket one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.e2e


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Settings whose policy looks at the second flag, reads a page and answers from it."""
    turns = [
        "<img_search>the second flag from the left</img_search>",
        "<text_search>Kenya capital</text_search>",
        "<answer>Nairobi</answer>",
    ]
    policy = {"kind": "lensgraph.agent.policy.scripted:ScriptedPolicy", "options": {"turns": turns}}
    path = tmp_path / "script.yaml"
    path.write_text(yaml.safe_dump({"policy": policy}))
    return path


def ask(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lensgraph", "ask", "notebooks/flags.png", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=170, env=dict(os.environ))


def test_a_fresh_machine_crops_a_flag_names_it_and_reads_its_page(repository: Path, script: Path) -> None:
    done = ask(repository, "What is the capital of the second flag's country?", "--config", str(script))
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "search by image  the second flag from the left" in said
    assert "cropped          box " in said
    assert "1. Flag of Kenya" in said
    assert "search by text   Kenya capital" in said
    assert "1. Kenya: Government" in said
    assert "answer  Nairobi" in said
    assert "source  Kenya: Government  https://www.cia.gov/" in said
    assert "cost    3 turns, 1 image search, 1 text search" in said


def test_json_is_one_object_with_its_sources_and_cost(repository: Path, script: Path) -> None:
    done = ask(repository, "What is its capital?", "--json", "--config", str(script))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"answer", "malformed", "searches", "sources", "stop_reason", "turns", "usage"}
    assert (result["answer"], result["turns"], result["searches"]) == ("Nairobi", 3, {"image": 1, "text": 1})
    assert result["sources"][0]["title"] == "Flag of Kenya"
    assert all(set(source) == {"title", "url", "turn"} for source in result["sources"])


def test_a_missing_index_says_how_to_build_one(repository: Path, script: Path) -> None:
    done = ask(repository, "?", "--config", str(script), "tools.text_search.index=/nowhere/index")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "lensgraph index" in done.stderr


def test_an_answer_of_the_pocket_policy_never_imports_torch(repository: Path) -> None:
    """As configured, to the end: the policy, its eyes, the embedder of the local image search. Torch's import takes as
    long as all the rest together."""
    question = "What is the capital of the country of the second flag from the left?"
    code = (
        "import sys; from lensgraph.graphs.program.main import main; "
        f"code = main(['ask', 'notebooks/flags.png', '{question}', '--json']); "
        "print(*[name for name in ('torch', 'transformers', 'trl') if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, timeout=170, env=dict(os.environ)
    )
    assert done.returncode in (0, 1), done.stderr  # giving up has gone the same way
    said, imported = done.stdout.splitlines()
    assert imported.split() == []
    assert json.loads(said)["searches"]["image"] >= 1
