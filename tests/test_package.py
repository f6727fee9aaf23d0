"""The package keeps its shape: light imports, one import direction, typed, complete wheel, fixed top level.

A red test here asks for a decision, not for an edit of the test."""

import ast
import functools
import importlib.metadata
import importlib.resources
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ["tools", "agent", "graphs", "rl"]
"""In the order of imports: a room may import the rooms before it, and itself."""

TOP_LEVEL = {
    *ROOMS,
    "tests",
    "notebooks",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "langgraph.json",
}

TRAINING_ONLY = ["trl", "datasets", "peft", "accelerate", "matplotlib"]
"""Come with `lensgraph[train]`; the base install answers questions without them."""


def python(code: str, *, cwd: Path) -> str:
    """Run `code` in a fresh interpreter away from the repository, and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=170)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@functools.cache
def sources(repository: Path, *folders: str) -> list[tuple[Path, ast.Module]]:
    """Every python file below the folders, parsed; paths relative to the repository."""
    return [
        (path.relative_to(repository), ast.parse(path.read_text(encoding="utf-8")))
        for folder in folders
        for path in sorted((repository / folder).rglob("*.py"))
    ]


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every absolute import, those inside functions included, as (line, dotted name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def test_importing_the_rooms_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ["torch", "transformers", "lancedb", "pandas", "langchain_community", *TRAINING_ONLY]
    code = f"import sys, tools, agent, graphs; print(*(name for name in {heavy} if name in sys.modules))"
    assert python(code, cwd=tmp_path) == ""


def test_three_rooms_import_in_full_without_the_training_extra(tmp_path: Path) -> None:
    """Every module of tools, agent and graphs, with the packages of `lensgraph[train]` made impossible to import."""
    code = f"""
import importlib, pkgutil, sys
for name in {TRAINING_ONLY}:
    sys.modules[name] = None
import tools, agent, graphs
for room in (tools, agent, graphs):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        # the builders of the world need the `world` extra; a __main__ is run, not imported
        if not module.name.endswith("__main__") and not module.name.startswith("lensgraph.tools.local.world.rasterise"):
            importlib.import_module(module.name)
"""
    python(code, cwd=tmp_path)


def test_imports_between_the_rooms_run_one_way(repository: Path) -> None:
    wrong = []
    for path, tree in sources(repository, *ROOMS):
        allowed = ROOMS[: ROOMS.index(path.parts[0]) + 1]
        for line, name in imported(tree):
            room = name.split(".")[0]
            if room in ROOMS and room not in allowed:
                wrong.append(f"{path}:{line} imports {name}")
            if room == "tests":
                wrong.append(f"{path}:{line} imports {name}")
    assert wrong == []


def test_no_module_imports_itself_in_a_circle(repository: Path) -> None:
    """Import-time imports only: an edge inside `if TYPE_CHECKING` or a function is not walked."""
    modules = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): tree
        for path, tree in sources(repository, *ROOMS)
    }
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for name, tree in modules.items():
        for node in tree.body:
            for _, target in imported(ast.Module(body=[node], type_ignores=[])):
                if isinstance(node, ast.If | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    continue
                found = target if target in modules else target.rpartition(".")[0]
                if found in modules and found != name:
                    edges[name].add(found)
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(edges[name]):
                walk(target, (*path, name))
            done.add(name)

    for name in modules:
        walk(name, ())


def test_no_schema_is_a_typing_typeddict(repository: Path) -> None:
    """On Python 3.11 `langgraph dev` serves an empty schema for them; `typing_extensions` has the right one."""
    used = [
        f"{path}:{line}"
        for path, tree in sources(repository, *ROOMS)
        for line, name in imported(tree)
        if name == "typing.TypedDict"
    ]
    assert used == []


def test_every_module_says_what_it_is_for(repository: Path) -> None:
    silent = [str(path) for path, tree in sources(repository, *ROOMS) if tree.body and not ast.get_docstring(tree)]
    assert silent == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_typed(room: str) -> None:
    assert importlib.resources.files(room).joinpath("py.typed").is_file()


def test_the_top_level_is_the_designs(repository: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=repository)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_the_installed_package_carries_its_data(repository: Path) -> None:
    """Every tracked file below the rooms that is not python is where the package was imported from."""
    listed = subprocess.run(["git", "ls-files", *ROOMS], capture_output=True, text=True, cwd=repository)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    missing = []
    for line in listed.stdout.splitlines():
        room, *rest = line.split("/")
        if not importlib.resources.files(room).joinpath(*rest).is_file():
            missing.append(line)
    assert missing == []


def test_the_base_install_does_not_ask_for_the_training_libraries() -> None:
    required = importlib.metadata.requires("lensgraph") or []
    base = {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in required if "extra ==" not in line}
    assert base.isdisjoint(TRAINING_ONLY)
    assert {"langgraph", "langchain-core", "transformers", "torch"} <= base


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
    assert list(SearchResult.model_fields) == ["kind", "query", "hits", "error", "seconds", "price", "cached"]
    assert list(LocateResult.model_fields) == ["expression", "regions", "error", "seconds", "price", "cached"]
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
    from lensgraph.rl.tasks import match

    assert parameters(tasks.load) == ["name", "limit", "family", "seed"]
    assert parameters(match.match)[:3] == ["answer", "golds", "tolerance"]
