"""The house keeps its floor plan: imports run one way, no folder circles, no room is crowded, docstrings are sentences.

Imports are read from the source: at the top, inside functions, by `import_module`, and by strings that name a module. A red
test here asks for a decision, not for an edit of the test."""

import ast
import functools
import re
import subprocess
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("tools", "agent", "graphs", "rl")
"""In the order of imports: a room may import the rooms before it, and itself."""
MOST_MODULES = 15
PROVIDERS = {"tools/text", "tools/image", "tools/locate"}
"""Folders with one file a provider may grow."""
SHARED_NAMES = {"__init__", "__main__", "base", "command", "errors", "processor", "table"}
"""Module names with one meaning in every folder: base class, command line, exceptions, processor of a checkpoint, table."""
MODULE = re.compile(r"lensgraph(\.\w+)+(:\w+)?")
TESTED_ELSEWHERE = {
    "agent/approval": "tests/graphs/test_approval.py",
    "agent/pocket": "tests/rl/pocket/test_shipped_policy.py",
    "rl/recipes": "tests/rl/grpo/test_train_online.py",
    "tools/guard/headers": "tests/tools/guard/test_hostile_pictures.py",
    "tools/local/world/making": "tests/tools/local/world/test_renditions.py",
}
"""Folders of code that no folder of tests mirrors: their tests need another room, or hold two folders to one rule."""
NOT_A_SENTENCE = re.compile(r"(What|How|Where|Of the|So many|Nothing where|That)\b")


@functools.cache
def sources(repository: Path) -> dict[str, tuple[Path, ast.Module]]:
    """Module name -> its path below the repository and its tree, for every module of the package."""
    found = {}
    for room in (*ROOMS, "lensgraph"):
        for path in sorted((repository / room).rglob("*.py")):
            parts = path.relative_to(repository).with_suffix("").parts
            name = ".".join(parts if room == "lensgraph" else ("lensgraph", *parts)).removesuffix(".__init__")
            found[name] = path.relative_to(repository), ast.parse(path.read_text(encoding="utf-8"))
    return found


def documented(tree: ast.AST) -> Iterator[tuple[ast.AST | None, str]]:
    """Every docstring: of modules, classes and functions, and of the fields and constants above them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield node, text
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.Assign | ast.AnnAssign) and _text(after):
                    yield None, _text(after)


def _text(node: ast.stmt) -> str:
    plain = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return str(node.value.value) if plain else ""  # type: ignore[attr-defined]


def reached(tree: ast.Module, modules: set[str]) -> set[tuple[int, str]]:
    """(line, module) of everything that a module imports or names by its import path.

    Types only (`if TYPE_CHECKING`) is not imported when it runs."""
    found: set[tuple[int, str]] = set()
    texts = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {(node.lineno, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                found.add((node.lineno, deeper if deeper in modules else node.module))
        elif isinstance(node, ast.Constant | ast.JoinedStr) and MODULE.fullmatch(text := _written(node, texts)):
            found.add((node.lineno, text.partition(":")[0]))
    return {(line, name) for line, name in found if name.split(".")[0] in ("lensgraph", "tests", *ROOMS)}


def _written(node: ast.expr, texts: dict[str, object]) -> str:
    """A string of the source; in an f-string, the module's own constants are filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return str(texts.get(ast.unparse(node.value), "?"))
    return "".join(_written(part, texts) for part in node.values) if isinstance(node, ast.JoinedStr) else "?"


def test_imports_between_the_rooms_run_one_way_by_string_too(repository: Path) -> None:
    found = sources(repository)
    wrong = []
    for name, (path, tree) in found.items():
        room = path.parts[0]
        if room == "lensgraph":
            continue
        allowed = ROOMS[: ROOMS.index(room) + 1]
        for line, target in reached(tree, set(found)):
            parts = target.split(".")
            if parts[0] != "lensgraph":
                wrong.append(f"{path}:{line} imports {target}, which is not the package's name")
            elif len(parts) > 1 and parts[1] in ROOMS and parts[1] not in allowed:
                wrong.append(f"{name}:{line} imports {target}")
    assert wrong == []


def test_no_circle_between_the_children_of_any_folder(repository: Path) -> None:
    """Files and sub-folders of one folder, each a node, with every import below them an edge: there is an order among them.

    A table of import paths counts as imports of them, so nothing may import the table that names it."""
    found = sources(repository)
    edges: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, (path, tree) in found.items():
        if path.parts[0] == "lensgraph":
            continue
        for _, target in reached(tree, set(found)):
            here, there = name.split("."), target.split(".")
            common = next(
                (n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there))
            )
            if common < len(here) and common < len(there):
                edges[".".join(here[:common])][here[common]].add(there[common])
    circles = [circle for folder, graph in sorted(edges.items()) if (circle := _circle(folder, graph))]
    assert circles == []


def _circle(folder: str, graph: dict[str, set[str]]) -> str:
    """One circle among the children of a folder, or nothing."""
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> str:
        if name in path:
            return f"{folder}: " + " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if circle := walk(target, (*path, name)):
                    return circle
            done.add(name)
        return ""

    return next((circle for name in sorted(graph) if (circle := walk(name, ()))), "")


def test_no_folder_is_crowded(repository: Path) -> None:
    counted = Counter(str(path.parent) for path, _ in sources(repository).values())
    crowded = {name: count for name, count in counted.items() if count > MOST_MODULES and name not in PROVIDERS}
    assert crowded == {}


def test_a_folder_of_code_has_a_folder_of_tests(repository: Path) -> None:
    """Named alike: `tools/guard/` is tested in `tests/tools/guard/`."""
    tested = {path.parent for path in (repository / "tests").rglob("test_*.py")}
    code = {path.parent for path, _ in sources(repository).values() if path.parts[0] in ROOMS}
    untested = {str(folder) for folder in code if repository / "tests" / folder not in tested}
    assert untested - set(ROOMS) == set(TESTED_ELSEWHERE)
    assert [name for name in TESTED_ELSEWHERE.values() if not (repository / name).is_file()] == []


def test_every_docstring_is_a_sentence_that_a_stranger_reads(repository: Path) -> None:
    """None begins with What, How, Where or "Of the". `Whether` names the question that a function answers with yes or no."""
    odd = []
    trees = {name: tree for name, (_, tree) in sources(repository).items()}
    trees |= {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in (repository / "tests").rglob("*.py")}
    for name, tree in trees.items():
        for node, text in documented(tree):
            first = text.split("\n")[0]
            asks = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None
            answers = asks and "bool" in ast.unparse(node.returns)  # type: ignore[union-attr,arg-type]
            if NOT_A_SENTENCE.match(first) or (first.startswith("Whether") and node is not None and not answers):
                odd.append(f"{name}: {first[:90]}")
    assert odd == []


def test_no_two_classes_share_a_name(repository: Path) -> None:
    counted: dict[str, list[str]] = defaultdict(list)
    for name, (_, tree) in sources(repository).items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                counted[node.name].append(name)
    assert {name: places for name, places in counted.items() if len(places) > 1} == {}


def test_no_two_modules_share_a_name_that_means_two_things(repository: Path) -> None:
    counted: dict[str, list[str]] = defaultdict(list)
    for path, _ in sources(repository).values():
        if path.stem not in SHARED_NAMES:
            counted[path.stem].append(str(path))
    assert {name: places for name, places in counted.items() if len(places) > 1} == {}


def test_every_module_says_what_it_is_for(repository: Path) -> None:
    silent = [str(path) for path, tree in sources(repository).values() if tree.body and not ast.get_docstring(tree)]
    assert silent == []


def test_no_schema_is_a_typing_typeddict(repository: Path) -> None:
    """On Python 3.11 `langgraph dev` serves an empty schema for them; `typing_extensions` has the right one."""
    used = [
        f"{path}:{node.lineno}"
        for path, tree in sources(repository).values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module == "typing"
        and any(a.name == "TypedDict" for a in node.names)
    ]
    assert used == []


def test_the_build_lists_every_folder_with_code(repository: Path) -> None:
    """A folder that is not listed in pyproject.toml is missing from the wheel."""
    listed = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    folders = {str(path.parent).replace("/", ".") for path, _ in sources(repository).values()}
    assert sorted(listed) == sorted(name if name == "lensgraph" else f"lensgraph.{name}" for name in folders)


def test_the_top_level_is_the_designs(repository: Path) -> None:
    folders = {*ROOMS, "lensgraph", "tests", "notebooks"}
    designed = folders | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in", "langgraph.json"}
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=repository)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= designed
    assert {line for line in listed.stdout.splitlines() if line.startswith("lensgraph/")} == {
        "lensgraph/__init__.py", "lensgraph/__main__.py", "lensgraph/py.typed",
    }  # fmt: skip
