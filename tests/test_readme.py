"""The README tells the truth: its code runs, its paths exist, its tree is the repository's, its commands parse."""

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code of every fenced block of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Every shell command of the README, split as a shell would, comments dropped."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    split = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [command for command in split if command]


def test_a_visitor_reads_it_in_one_sitting(readme: str) -> None:
    lines = readme.splitlines()
    assert len(lines) <= 120
    prose = re.sub(r"^```.*?^```$", "", readme, flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) >= 100] == []
    assert {"run.svg", "architecture.svg"} <= set(re.findall(r"assets/([\w.]+)", readme))


def test_links_lead_somewhere(readme: str, repository: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", readme)
    local = [target for target in targets if not target.startswith("http")]
    assert local
    assert [target for target in local if not (repository / target).exists()] == []


def test_pictures_in_commands_and_code_exist(readme: str, repository: Path) -> None:
    named = set(re.findall(r"\bnotebooks/[\w.]+", readme))
    assert "notebooks/flags.png" in named
    assert [name for name in sorted(named) if not (repository / name).is_file()] == []


def test_the_tree_is_the_repositorys(readme: str, repository: Path) -> None:
    tree = readme.split("## How it is built")[1].split("```")[1]
    folders = {line.split("/")[0] for line in tree.strip().splitlines()}
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=repository)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    tracked = {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    assert folders == {name for name in tracked if not name.startswith(".")}


def test_every_command_names_a_program_that_explains_itself(readme: str) -> None:
    """`lensgraph ask --help`, `python -m rl.train --help`, ...: each exists and knows the options shown."""
    shown: dict[tuple[str, ...], set[str]] = {}
    for command in commands(readme):
        if command[0] == "lensgraph":
            program: tuple[str, ...] = (sys.executable, "-m", "lensgraph", command[1])
        elif command[:2] == ["python", "-m"]:
            subcommand = command[3:4] if command[3:4] and not command[3].startswith("-") else []
            program = (sys.executable, "-m", command[2], *subcommand)
        else:
            assert command[0] in {"pip", "pytest", "langgraph"}, command
            continue
        shown.setdefault(program, set()).update(part for part in command if part.startswith("--"))
    assert len(shown) >= 5

    def explained(program: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, "--help"], capture_output=True, text=True, timeout=120)

    with ThreadPoolExecutor(2) as pool:  # most of it is starting processes
        said = list(pool.map(explained, shown))
    for (program, options), done in zip(shown.items(), said, strict=True):
        assert done.returncode == 0, (program, done.stderr)
        missing = {option for option in options if option not in done.stdout}
        assert missing == set(), program


def test_yaml_blocks_are_valid_configurations(repository: Path, tmp_path: Path) -> None:
    from lensgraph.agent import config

    guides = ["README.md", *(f"{room}/README.md" for room in ("agent", "graphs", "rl", "tools"))]
    guides = [guide for guide in guides if (repository / guide).is_file()]
    found = [block for guide in guides for block in blocks((repository / guide).read_text(encoding="utf-8"), "yaml")]
    assert len(found) >= 3
    for number, block in enumerate(found):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block, encoding="utf-8")
        given, loaded = yaml.safe_load(block), config.load_config(path, environ={}).model_dump()
        assert given and set(given) <= set(loaded), block


def test_settings_in_the_readme_are_settings(readme: str) -> None:
    from lensgraph.agent import config

    named = set(re.findall(r"\b((?:policy|dialect|tools|limits|images)\.[a-z_.]+)=", readme))
    assert "limits.turns" in named
    for name in named:
        config.load_config(overrides=[f"{name}=1" if name.startswith("limits") else f"{name}=x"], environ={})


@pytest.mark.e2e
def test_the_python_blocks_run(readme: str, repository: Path) -> None:
    """All in one process, one after the other, from the repository's root, as a reader would paste them."""
    found = blocks(readme, "python")
    assert found
    code = "\n".join(f"exec(compile({block!r}, 'README block {n}', 'exec'), {{}})" for n, block in enumerate(found))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=repository, timeout=170
    )
    assert done.returncode == 0, done.stderr
    assert "answered" in done.stdout


@pytest.mark.e2e
def test_the_first_command_answers(readme: str, repository: Path) -> None:
    """The install itself is what CI does; what follows `&&` is run here as it is written."""
    install, ask = next(block for block in blocks(readme, "sh") if "lensgraph ask" in block).strip().split(" && ")
    assert install == "pip install ."
    words = shlex.split(ask)
    assert words[:2] == ["lensgraph", "ask"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "lensgraph", *words[1:]],
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
