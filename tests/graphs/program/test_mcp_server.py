"""The MCP server: its one tool, what a client may name, threads; and the program with its options."""

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image

pytest.importorskip("mcp", reason="needs lensgraph[mcp]")

from mcp import Client

from lensgraph.agent import testing
from lensgraph.agent.config import Config, load_config
from lensgraph.agent.errors import UserError
from lensgraph.graphs import search_agent
from lensgraph.graphs.program import mcp_server
from lensgraph.graphs.program.main import main


def turns(messages: list[Any]) -> str:
    if "called" in messages[0].text:
        return "<answer>Kestrel Point</answer>" if "base64" in messages[0].content[0] else "<answer>blind</answer>"
    return "<answer>1987</answer>" if "<information>" in messages[-1].text else "<img_search><img></img_search>"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "open").mkdir()
    Image.new("RGB", (64, 48), "navy").save(tmp_path / "open" / "a.png")
    return tmp_path / "open" / "a.png"


def uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def client(files: bool | str = False, *, threads: bool = False) -> Client:
    graph = search_agent.build(InMemorySaver()) if threads else search_agent.graph
    return Client(mcp_server.server(graph, testing.context(turns), files=files, threads=threads))


async def test_one_typed_tool_with_a_structured_result(picture: Path) -> None:
    async with client() as session:
        (tool,) = (await session.list_tools()).tools
        assert (tool.name, list(tool.input_schema["properties"])) == ("ask", ["question", "image"])
        assert tool.input_schema["required"] == ["question"]
        assert set(tool.output_schema["properties"]) == {"answer", "sources", "usage", "stop_reason", "thread"}
        result = await session.call_tool("ask", {"question": "When?", "image": uri(picture)})
    assert not result.is_error
    assert result.content[0].text == "1987\nSources:\n1. Kestrel Point Light https://example.org/kestrel"
    assert result.structured_content["answer"] == "1987"
    assert result.structured_content["usage"]["searches"] == {"image": 1, "text": 0}


@pytest.mark.parametrize(
    "image", ["a.png", "/etc/passwd", "http://127.0.0.1/a.png", "data:image/png;base64,eA==", "data:image/png;base64,ä"]
)
async def test_what_a_client_may_not_name_is_an_error_that_says_so(image: str) -> None:
    async with client() as session:
        result = await session.call_tool("ask", {"question": "When?", "image": image})
    assert result.is_error
    assert len(result.content[0].text.splitlines()) == 1


async def test_files_opens_one_folder(picture: Path) -> None:
    async with client(str(picture.parent)) as session:
        inside = await session.call_tool("ask", {"question": "When?", "image": "a.png"})
        outside = await session.call_tool("ask", {"question": "When?", "image": "../a.png"})
    assert inside.structured_content["answer"] == "1987"
    assert outside.is_error and "outside the folder" in outside.content[0].text


@pytest.mark.parametrize("question", ["", "  ", "x" * 9_000])
async def test_a_question_that_cannot_be_asked_is_an_error(question: str) -> None:
    async with client() as session:
        result = await session.call_tool("ask", {"question": question})
    assert result.is_error and "The question" in result.content[0].text


async def test_a_thread_is_a_follow_up_about_its_picture(picture: Path) -> None:
    async with client(threads=True) as session:
        first = (await session.call_tool("ask", {"question": "When?", "image": uri(picture)})).structured_content
        follow_up = {"question": "What is it called?", "thread": first["thread"]}
        second = (await session.call_tool("ask", follow_up)).structured_content
        other = (await session.call_tool("ask", {"question": "When?", "image": uri(picture)})).structured_content
    assert (second["answer"], second["thread"]) == ("Kestrel Point", first["thread"])
    assert other["thread"] != first["thread"]


@pytest.mark.parametrize("thread", ["1", "0" * 32, "../x", ""])
async def test_a_thread_cannot_be_made_up(thread: str) -> None:
    async with client(threads=True) as session:
        result = await session.call_tool("ask", {"question": "When?", "thread": thread})
    assert result.is_error and "there is no thread" in result.content[0].text


async def test_threads_that_outlive_the_server_need_a_folder_for_pictures() -> None:
    with pytest.raises(UserError, match=r"need images\.folder"):
        await mcp_server.serve(Config(), port=None, files=None, threads="sqlite:///threads.db")


async def test_a_policy_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(UserError, match=r"policy\.model"):
        await mcp_server.serve(load_config(overrides=["policy.model=/no/such"]), port=None, files=None, threads=None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--http", "0"], "no port"),
        (["--http", "x"], "invalid int"),
        (["--files", "/no/such"], "no such folder"),
        (["graf=1"], "unknown key"),
        (["--threads", "db", "images.folder=/tmp/x", "policy.kind=lensgraph.agent.policy.scripted:ScriptedPolicy",
          "tools.text_search.use=lensgraph.agent.testing:FixedText", "tools.image_search.use=lensgraph.agent.testing:FixedImage"],
         "is no address of threads"),
        (["--threads", "postgresql://me:hunter2@db/x"], "--threads postgresql://***@db/x: threads that outlive"),
        (["--threads", "postgresql://db/x?user=me&password=hunter2"], "x?user=me&password=***: threads that outlive"),
    ],
)  # fmt: skip
def test_wrong_options_cost_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["mcp", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert told in said.err and said.err.count("\n") == 1
    assert "hunter2" not in said.err


def test_without_the_extra_the_program_names_it(tmp_path: Path) -> None:
    settings = ["policy.kind=lensgraph.agent.policy.scripted:ScriptedPolicy", "graph=direct"]
    code = (
        "import sys; sys.modules['mcp'] = None; from lensgraph.graphs.program.main import main; "
        f"sys.exit(main({['mcp', *settings]!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert (
        done.stderr == "lensgraph mcp: the MCP server needs a package: pip install '.[mcp]' in a clone of LensGraph\n"
    )


def test_a_picture_of_the_largest_size_fits_into_a_request() -> None:
    buffer = io.BytesIO(b"\0" * mcp_server.guard.MAX_FETCH_BYTES)
    assert len(base64.b64encode(buffer.getvalue())) < mcp_server.MAX_BODY_BYTES
