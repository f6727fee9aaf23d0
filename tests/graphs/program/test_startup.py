"""A warm question loads what it needs and nothing else: importing is most of what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["transformers", "scipy", "pandas", "lancedb", "pyarrow", "langchain_community", "torch", "sympy"]
"""Each of these costs a third of a second or more, and the pocket policy on the embedded world needs none."""
ASK = """
import asyncio, json, sys
from concurrent.futures import ThreadPoolExecutor
from lensgraph.graphs.program import run_question as command
from lensgraph.agent import config
from lensgraph.agent.context import Backends
settings = config.load_config(None, json.loads(sys.argv[1]), environ={})
with ThreadPoolExecutor() as pool:
    command._load(settings, pool)
from lensgraph.tools.local.embedder.by_name import load_embedder
from PIL import Image
load_embedder().embed([Image.new("RGB", (80, 60), "red")])
from lensgraph.agent.shared import _built
policy = next(built for key, built in _built.items() if key[0] == "policy")
from langchain_core.messages import HumanMessage
asyncio.run(policy.ainvoke([HumanMessage("q")]))
print(*[name for name in json.loads(sys.argv[2]) if name in sys.modules])
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny pocket policy."""
    pocket = pytest.importorskip("lensgraph.rl.pocket.pocket_network", reason="makes the network")
    size = pocket.PocketSize(
        vocabulary=640, hidden=48, layers=2, heads=3, kv_heads=3, mlp=96, vision_hidden=32, vision_layers=2,
        vision_heads=2, vision_mlp=64, picture_tokens=9, copying=False,
    )  # fmt: skip
    processor = pocket.build_processor(pocket.train_tokenizer(["What is the capital?"] * 8, 640), size)
    folder: Path = tmp_path_factory.mktemp("tiny")
    pocket.save(pocket.build_network(processor, size), processor, folder)
    return folder


def test_a_warm_question_imports_nothing_that_it_does_not_need(tiny: Path, tmp_path: Path) -> None:
    """Graph, policy, tools, embedder: all that an answer touches. The tools stand in for a ready index."""
    settings = [
        "policy.kind=pocket", f"policy.model={tiny}",
        "tools.text_search=lensgraph.agent.testing:FixedText", "tools.image_search=lensgraph.agent.testing:FixedImage",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(settings), json.dumps(HEAVY)],
        capture_output=True, text=True, cwd=tmp_path, timeout=170, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_local_tools_import_nothing_heavy(tmp_path: Path) -> None:
    """The engine, its tools and the world behind them, without building an index."""
    code = (
        "import json, sys; import lensgraph.tools.local.search_pages, lensgraph.tools.local.search_pictures, "
        "lensgraph.tools.local.index.engine, lensgraph.tools.local.world.world_index, lensgraph.tools.locate.local_locator; "
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
