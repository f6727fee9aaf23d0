"""The program `lensgraph mcp`: its options, the bearer token, the tools that it starts with."""

import base64
import io
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from lensgraph.agent.config import Config, load_config
from lensgraph.agent.errors import UserError
from lensgraph.graphs.program.main import main
from lensgraph.graphs.program.mcp_server import serving

from .conftest import over_http, served

TOKEN = "c0rrect.horse_battery-staple"
BODY = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
HEADERS = {"Accept": "application/json, text/event-stream"}


async def post(address: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(address, json=BODY, headers={**HEADERS, **headers})


async def test_who_holds_the_token_is_served(uri: str) -> None:
    async with over_http(token=TOKEN) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert result.structured_content["answer"] == "1987"


async def test_without_the_token_every_request_is_refused() -> None:
    wrong = ["wrong", f"{TOKEN}x", TOKEN[:-1], TOKEN.upper(), f" {TOKEN}", "ä"]
    headers = ["", "Bearer", TOKEN, f"Basic {TOKEN}", *(f"Bearer {token}" for token in wrong)]
    async with served(token=TOKEN) as address, httpx.AsyncClient(trust_env=False) as http:
        for header in headers:
            given: dict[str, Any] = {**HEADERS, **({"Authorization": header.encode()} if header else {})}
            for method in ("POST", "GET", "DELETE"):
                reply = await http.request(method, address, headers=given, json=BODY)
                assert reply.status_code == 401, (header, reply.text)
                assert reply.headers["WWW-Authenticate"].startswith("Bearer ")
                assert TOKEN not in reply.text


async def test_a_body_is_not_read_before_the_token_is() -> None:
    async with served(token=TOKEN) as address, httpx.AsyncClient(trust_env=False) as http:
        reply = await http.post(address, content=b"x" * (serving.MAX_BODY_BYTES + 1), headers=HEADERS)
    assert reply.status_code == 401


async def test_with_the_token_foreign_host_and_origin_are_refused_all_the_same() -> None:
    async with served(token=TOKEN) as address:
        for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            reply = await post(address, Authorization=f"Bearer {TOKEN}", **wrong)
            assert reply.status_code in (403, 421), reply.text


async def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(serving.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    one = serving.OneToken(TOKEN)
    assert (await one.verify_token("wrong"), bool(await one.verify_token(TOKEN))) == (None, True)
    assert compared == [(b"wrong", TOKEN.encode()), (TOKEN.encode(), TOKEN.encode())]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "is not set"),
        ("", "is empty"),
        (" \n", "is empty"),
        ("two words", "no bearer token"),
        ("ä" * 9, "no bearer token"),
    ],
)
def test_a_missing_token_is_one_line(
    value: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LENS_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("LENS_TOKEN", value)
    assert main(["mcp", "--http", "8765", "--token-env", "LENS_TOKEN"]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not (value or "").strip() or value.strip() not in told


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ([], True),  # a text search of a class that does not say that it answers on this machine
        (["tools.text_search.use=lensgraph.agent.testing:FixedText"], False),
        (["graph=direct"], False),
    ],
)
async def test_the_open_world_is_that_of_the_configured_tools(settings: list[str], hint: bool) -> None:
    async with over_http(settings=settings) as client:
        (tool,) = (await client.list_tools()).tools
    assert tool.annotations.open_world_hint is hint


async def test_pictures_opens_one_folder(picture: Path) -> None:
    async with over_http(pictures=str(picture.parent)) as client:
        inside = await client.call_tool("ask", {"question": "When?", "image": "a.png"})
        outside = await client.call_tool("ask", {"question": "When?", "image": "../a.png"})
    assert inside.structured_content["answer"] == "1987"
    assert outside.is_error and "outside the folder" in outside.content[0].text


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["mcp", "--http", port]) == 2
    told = capsys.readouterr().err
    assert f"--http {port}: cannot listen there (Address already in use)" in told and told.count("\n") == 1


async def test_threads_that_outlive_the_server_need_a_folder_for_pictures() -> None:
    with pytest.raises(UserError, match=r"need images\.folder"):
        await serving.serve(Config(), port=None, pictures=None, threads="sqlite:///threads.db")


async def test_a_policy_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(UserError, match=r"policy\.model"):
        await serving.serve(load_config(overrides=["policy.model=/no/such"]), port=None, pictures=None, threads=None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--http", "0"], "no port"),
        (["--http", "x"], "invalid int"),
        (["--pictures", "/no/such"], "no such folder"),
        (["--files", "/no/such"], "no such folder"),
        (["--token-env", "LENS_TOKEN"], "only HTTP has a token; add --http PORT"),
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
        code: Any = main(["mcp", *arguments])
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
    buffer = io.BytesIO(b"\0" * serving.guard.MAX_FETCH_BYTES)
    assert len(base64.b64encode(buffer.getvalue())) < serving.MAX_BODY_BYTES
