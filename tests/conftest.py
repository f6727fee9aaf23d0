"""The setting of every test: no network, no hub, one torch thread, and a home folder of the test run's own.

Set before any test module is imported, and in the environment, so that programs started by a test inherit it.
`LENSGRAPH_HOME` given from outside is kept: a developer may reuse one built index between runs."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calling_server import CallingServer

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes share the cores
os.environ["LANGSMITH_TRACING"] = "false"
# Keys of the person who runs the tests never reach a test: a live search would be paid for.
for name in (
    "TAVILY_API_KEY", "BRAVE_SEARCH_API_KEY", "SERPAPI_API_KEY", "SEARCHAPI_API_KEY", "JINA_API_KEY", "SEARXNG_URL",
    "GOOGLE_VISION_API_KEY", "LENSGRAPH_LOCATE_API_KEY",
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "GOOGLE_APPLICATION_CREDENTIALS",
):  # fmt: skip
    os.environ.pop(name, None)

_home: "tempfile.TemporaryDirectory[str] | None" = None
if "LENSGRAPH_HOME" not in os.environ:
    _home = tempfile.TemporaryDirectory(prefix="lensgraph-tests-", ignore_cleanup_errors=True)
    os.environ["LENSGRAPH_HOME"] = _home.name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out unless `-m` speaks of them, so that `-m "not contract"` does not bring them back."""
    if "slow" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository: README, notebooks and metadata, which the wheel does not carry."""
    return REPOSITORY


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte, which the tests fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root on Linux can mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def fill() -> Callable[[Path], Path]:
    """Fills a small disk with a file, which it returns; whoever removes the file makes room."""

    def filled(disk: Path) -> Path:
        with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        return disk / "filler"

    return filled


@pytest.fixture
def calling_server() -> Iterator[Callable[..., CallingServer]]:
    """Starts servers whose model calls tools: `calling_server([said(("text_search", {"query": "q"})), said(text="1987")])`."""
    started: list[CallingServer] = []

    def start(script: list[dict[str, Any]]) -> CallingServer:
        started.append(CallingServer(script))
        return started[-1]

    yield start
    for one in started:
        one.close()
