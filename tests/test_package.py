"""The package keeps its shape: light imports, typed, a complete wheel, signatures that others rely on.

A red test here asks for a decision, not for an edit of the test."""

import importlib.metadata
import importlib.resources
import inspect
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOMS = ["tools", "agent", "graphs", "rl"]
"""In the order of imports: a room may import the rooms before it, and itself."""

TRAINING_ONLY = ["trl", "datasets", "peft", "accelerate", "matplotlib"]
"""Come with `lensgraph[train]`; the base install answers questions without them."""
HUB_ONLY = ["torch", "transformers", "safetensors", "scipy"]
"""Come with `lensgraph[hub]`: models of the hub in this process."""
NEED_TORCH = [
    "lensgraph.agent.policy.families.generate",
    "lensgraph.agent.policy.families.own_processor",
    "lensgraph.agent.policy.families.picture_batch",
    "lensgraph.agent.policy.families.table",
    "lensgraph.agent.policy.hub",
    "lensgraph.agent.policy.hub_processor",
    "lensgraph.agent.policy.qwen.batching",
    "lensgraph.agent.policy.qwen.decode",
    "lensgraph.agent.policy.qwen.kv_rows",
    "lensgraph.agent.policy.qwen.prefix_cache",
    "lensgraph.agent.policy.qwen.processor",
    "lensgraph.agent.policy.qwen.transformers_policy",
    "lensgraph.tools.local.embedder.transformers_embedder",
    "lensgraph.tools.local.training.augment",
    "lensgraph.tools.local.training.fit",
    "lensgraph.tools.local.training.head",
    "lensgraph.tools.local.training.torch_network",
]
"""Modules of tools, agent and graphs that the base install cannot import, all of them. Nothing else may need torch."""


def python(code: str, *, cwd: Path) -> str:
    """Run `code` in a fresh interpreter away from the repository, and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=170)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_rooms_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ["torch", "transformers", "lancedb", "pandas", "langchain_community", *TRAINING_ONLY]
    rooms = "lensgraph.tools, lensgraph.agent, lensgraph.graphs"
    code = f"import sys, {rooms}; print(*(name for name in {heavy} if name in sys.modules))"
    assert python(code, cwd=tmp_path) == ""


def test_three_rooms_import_in_the_base_install(tmp_path: Path) -> None:
    """Every module of tools, agent and graphs, with the packages of `hub` and `train` made impossible to import."""
    code = f"""
import importlib, pkgutil, sys
for name in {HUB_ONLY + TRAINING_ONLY}:
    sys.modules[name] = None
import lensgraph.tools, lensgraph.agent, lensgraph.graphs
for room in (lensgraph.tools, lensgraph.agent, lensgraph.graphs):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        # the builders of the world need the `world` extra; a __main__ is run, not imported
        if module.name.endswith("__main__") or module.name.startswith("lensgraph.tools.local.world.making.rasterise"):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in {HUB_ONLY}:
                raise
            print(module.name)
"""
    assert sorted(python(code, cwd=tmp_path).split()) == NEED_TORCH


@pytest.mark.parametrize("name", ["tests", "notebooks", "lensgraph"])
def test_nothing_of_the_repository_but_the_rooms_is_imported(name: str, tmp_path: Path) -> None:
    code = f"import importlib, lensgraph.agent\ntry: importlib.import_module('lensgraph.{name}')\nexcept ImportError: print('no')"
    assert python(code, cwd=tmp_path) == "no"


def test_the_package_is_typed() -> None:
    assert importlib.resources.files("lensgraph").joinpath("py.typed").is_file()


def test_the_installed_package_carries_its_data(repository: Path) -> None:
    """Every tracked file below the rooms that is not python is where the package was imported from."""
    listed = subprocess.run(["git", "ls-files", *ROOMS], capture_output=True, text=True, cwd=repository)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    missing = []
    for line in listed.stdout.splitlines():
        room, *rest = line.split("/")
        if not importlib.resources.files(f"lensgraph.{room}").joinpath(*rest).is_file():
            missing.append(line)
    assert missing == []


@pytest.fixture
def clone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files, in which a build may leave its folders."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=repository)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("clone")
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    return folder


def built(what: str, clone: Path, out: Path) -> Path:
    """The archive that the build backend of the repository makes."""
    code = f"import build_backend; build_backend.build_{what}({str(out)!r})"
    environment = {**os.environ, "PYTHONPATH": str(clone / ".ci")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=clone, env=environment)
    assert done.returncode == 0, done.stderr
    return next(out.glob("lensgraph-*"))


@pytest.mark.slow
def test_the_source_distribution_is_the_repository_and_its_tests_run(clone: Path, tmp_path: Path) -> None:
    tracked = {str(path.relative_to(clone)) for path in clone.rglob("*") if path.is_file()}
    with tarfile.open(built("sdist", clone, tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / "lensgraph-0.1.0"
    made = {"PKG-INFO", "setup.cfg"}  # by setuptools, and the folder of metadata
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith("lensgraph.egg-info/")} - made == tracked
    tests = ["tests/test_house.py", "tests/agent/test_actions.py", "tests/tools/guard/test_data_uri.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=unpacked, env=environment)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_wheel_holds_no_module_of_an_earlier_build(repository: Path, clone: Path, tmp_path: Path) -> None:
    stale = clone / "build/lib/lensgraph/tools/renamed_since.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    with zipfile.ZipFile(built("wheel", clone, tmp_path)) as archive:
        modules = {name for name in archive.namelist() if name.endswith(".py")}
    assert len(modules) > 300
    for name in modules:
        assert (repository / name).is_file() or (repository / name.removeprefix("lensgraph/")).is_file(), name


def test_the_base_install_asks_for_neither_torch_nor_the_training_libraries() -> None:
    required = importlib.metadata.requires("lensgraph") or []
    base = {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in required if "extra ==" not in line}
    assert base.isdisjoint([*TRAINING_ONLY, *HUB_ONLY])
    assert {"langgraph", "langchain-core", "numpy", "tokenizers"} <= base


def test_the_script_starts_the_agent() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name="lensgraph")
    assert [script.value for script in scripts] == ["lensgraph.graphs.program.main:main"]


def parameters(function: object) -> list[str]:
    """Names of a callable's parameters, without self."""
    return [name for name in inspect.signature(function).parameters if name != "self"]  # type: ignore[arg-type]


def test_the_tool_classes_keep_their_names_and_arguments() -> None:
    from lensgraph.tools.base import ImageSearch, Locator, TextSearch
    from lensgraph.tools.registry import build

    assert parameters(build) == ["kind", "spec", "cache"]
    assert (parameters(TextSearch.asearch), parameters(ImageSearch.asearch)) == (["query"], ["image"])
    assert parameters(Locator.alocate) == ["image", "expression"]
    assert list(TextSearch.model_fields["args_schema"].default.model_fields) == ["query"]
    assert list(ImageSearch.model_fields["args_schema"].default.model_fields) == ["image"]
    assert list(Locator.model_fields["args_schema"].default.model_fields) == ["image", "expression"]


def test_the_typed_results_keep_their_fields() -> None:
    from lensgraph.tools.results import Hit, LocateResult, Region, SearchResult, ToolError

    assert list(Hit.model_fields) == ["title", "url", "snippet", "score", "thumbnail"]
    shared = {"error", "seconds", "price", "cached"}
    assert set(SearchResult.model_fields) == {"kind", "query", "hits", *shared}
    assert set(LocateResult.model_fields) == {"expression", "regions", *shared}
    assert list(Region.model_fields) == ["box", "score", "label"]
    assert list(ToolError.model_fields) == ["reason", "message"]


def test_the_graphs_keep_their_input_and_output() -> None:
    from lensgraph.graphs import direct, rag, search_agent

    for module in (search_agent, rag, direct):
        assert set(module.graph.get_input_jsonschema()["properties"]) == {"messages", "question", "images"}
        assert set(module.graph.get_output_jsonschema()["properties"]) == {
            "messages",
            "answer",
            "sources",
            "usage",
            "stop_reason",
            "steps",  # Studio streams output keys only: without it a run would show no thought, box or result
        }
        assert parameters(module.build) == ["checkpointer"]


def test_a_run_keeps_its_options() -> None:
    from lensgraph.agent.config import Config
    from lensgraph.agent.context import Context

    served = {"policy", "dialect", "lenient", "max_turns", "max_image_searches", "max_text_searches"}
    live = {"text_search", "image_search", "locate", "store", "config"}
    assert set(Context.model_fields) >= served | live
    assert set(Config.model_fields) >= {"graph", "policy", "dialect", "tools", "limits", "images"}


def test_the_records_that_training_reads_keep_their_fields() -> None:
    from lensgraph.agent.state import EVERYTHING, Step, Usage

    assert {"dialogue", "steps", "pictures", "messages", "answer", "stop_reason"} <= set(EVERYTHING)
    told = {"node", "turn", "seconds", "price", "text", "thought", "action", "query", "crop", "hits", "error"}
    assert told <= set(Step.__annotations__)
    assert set(Usage.__annotations__) >= {"turns", "searches", "seconds", "price"}


def test_tasks_and_their_match_keep_their_arguments() -> None:
    from lensgraph.rl import tasks
    from lensgraph.rl.tasks.match import match

    assert parameters(tasks.load_tasks) == ["name", "limit", "family", "seed"]
    assert parameters(match)[:3] == ["answer", "golds", "tolerance"]
