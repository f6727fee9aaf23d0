"""Servers to ask: in this process, or the program over HTTP and stdio; and what their slow backends wrote down."""

import asyncio
import base64
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("mcp", reason="needs lensgraph[mcp]")

import httpx2
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from lensgraph.agent.config import load_config
from lensgraph.graphs.program.mcp_server import serving

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # the backends are given by import path, as an operator gives them

from slow_backends import SETTINGS  # noqa: E402


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture in a folder of its own."""
    (tmp_path / "open").mkdir()
    Image.new("RGB", (64, 48), "navy").save(tmp_path / "open" / "a.png")
    return tmp_path / "open" / "a.png"


@pytest.fixture
def uri(picture: Path) -> str:
    """The same as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Lines that the slow backends wrote."""
    path = tmp_path / "slow.log"
    monkeypatch.setenv("SLOW_LOG", str(path))
    return lambda: path.read_text().splitlines() if path.exists() else []


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[str]:
    """The address of a server that `lensgraph mcp --http` would start with these options."""
    port, running = free_port(), []

    class Recorded(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            running.append(self)

    settings = load_config(overrides=[*SETTINGS, *options.pop("settings", [])])
    given = {"pictures": None, "threads": None, "token": None, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", Recorded)
        task = asyncio.create_task(serving.serve(settings, port=port, **given))
        while not (running and running[0].started):
            assert not task.done(), task.exception()
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}/mcp"
    running[0].should_exit = True  # on a failure of the test the task ends with its loop
    await task


@asynccontextmanager
async def over_http(
    mode: Any = "auto", token: str | None = None, person: Any = None, **options: Any
) -> AsyncIterator[Client]:
    """The SDK's client of a server over HTTP."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        served(token=token, **options) as address,
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(address, http_client=http), mode=mode, elicitation_callback=person) as client,
    ):
        yield client


@asynccontextmanager
async def over_stdio(mode: Any = "auto") -> AsyncIterator[Client]:
    """The SDK's client of the program, which it starts itself."""
    where = StdioServerParameters(
        command=sys.executable, args=["-m", "lensgraph", "mcp", *SETTINGS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    async with Client(where, mode=mode) as client:
        yield client


TRANSPORTS: dict[str, Callable[..., AbstractAsyncContextManager[Client]]] = {"stdio": over_stdio, "http": over_http}
