"""The forms in which a client gives a picture, and those that it may not give."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from PIL import Image

from lensgraph.agent import testing
from lensgraph.graphs import direct, search_agent
from lensgraph.graphs.program.mcp_server.ask_server import AskServer
from lensgraph.tools import guard

TURNS = ["<img_search>the tower</img_search>", "<answer>1987</answer>"]


def asking(picture: Path | None, turns: Any = ("<answer>1987</answer>",), graph: Any = direct.graph) -> Client:
    """A client of a server that opened the picture's folder."""
    return Client(AskServer(graph, testing.context(list(turns)), pictures=str(picture.parent) if picture else False))


def bare(picture: Path) -> str:
    """Base64 of a file; of a JPEG it begins as a path does."""
    return base64.b64encode(picture.read_bytes()).decode()


def jpeg(picture: Path) -> Path:
    """The picture as JPEG."""
    Image.open(picture).save(picture.with_suffix(".jpg"))
    return picture.with_suffix(".jpg")


GIVEN: dict[str, Callable[[Path], Any]] = {
    "relative path": lambda p: p.name,
    "absolute path": str,
    "path with spaces around it": lambda p: f" {p.name}\n",
    "file address": lambda p: p.as_uri(),
    "data URI": lambda p: f"data:image/png;base64,{bare(p)}",
    "bare base64": bare,
    "bare base64 of a JPEG": lambda p: bare(jpeg(p)),
    "image content": lambda p: {"type": "image", "data": bare(p), "mimeType": "image/png"},
    "embedded resource": lambda p: {
        "type": "resource", "resource": {"uri": "memory://x/1", "blob": bare(p), "mimeType": "image/png"},
    },
    "contents of a resource": lambda p: {"uri": p.as_uri(), "blob": bare(p), "mimeType": "image/png"},
    "link to a resource": lambda p: {"type": "resource_link", "uri": p.as_uri(), "name": "a", "mimeType": "image/png"},
}  # fmt: skip


@pytest.mark.parametrize("form", GIVEN)
async def test_a_picture_is_read_in_the_form(form: str, picture: Path) -> None:
    async with asking(picture) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": GIVEN[form](picture)})
        assert not result.is_error, result.content[0].text
        named = [r for r in (await client.list_resources()).resources if r.uri.startswith("lensgraph://pictures/")]
    assert [r.description for r in named] == ["64 x 48 pixels"]


async def test_an_address_is_fetched_through_the_guard(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        return picture.read_bytes()

    monkeypatch.setattr(guard, "fetch", fetch)
    async with asking(None) as client:
        for form in ("https://example.org/a.png", {"type": "resource_link", "uri": "https://example.org/a.png", "name": "a",
                                                   "mimeType": "image/png"}):  # fmt: skip
            assert not (await client.call_tool("ask", {"question": "When?", "image": form})).is_error
    assert fetched == ["https://example.org/a.png"] * 2


async def test_a_crop_that_an_episode_names_is_asked_about_again(picture: Path, uri: str) -> None:
    """As an address, as a link, and as what the client read from there."""
    async with asking(picture, TURNS, search_agent.graph) as client:
        await client.call_tool("ask", {"question": "When?", "image": uri})
        crop = next(r for r in (await client.list_resources()).resources if r.title == "the crop of the tower")
        (read,) = (await client.read_resource(crop.uri)).contents
        forms: list[Any] = [
            crop.uri,
            {"type": "resource_link", "uri": crop.uri, "name": "crop", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": crop.uri, "mimeType": "image/png"}},
            read.model_dump(mode="json", by_alias=True),
        ]
        for form in forms:
            result = await client.call_tool("ask", {"question": "What is it?", "image": form})
            assert not result.is_error, result.content[0].text
            (episode,) = (await client.read_resource(result.structured_content["episode"])).contents
            assert '"width": 16, "height": 16' in episode.text.split('"steps"')[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("../a.png", "outside the folder"),
        ("/etc/passwd", "outside the folder"),
        ("file:///etc/passwd", "outside the folder"),
        ("link.png", "outside the folder"),
        ("pipe", "not a file"),
        ("none.png", "no such file"),
        ("notes.txt", "not a picture"),
        ("", "picture"),
        ("http://127.0.0.1/a.png", "127.0.0.1"),
        ("data:image/png;base64,eA==", "picture"),
        ("data:image/png;base64,ä", "broken base64"),
        ("s3://bucket/a.png", "cannot be read from s3://"),
        ("lensgraph://pictures/" + "0" * 64, "no such picture here"),
        ({"type": "resource_link", "uri": "lensgraph://pictures/x", "name": "x"}, "no such picture here"),
        ({"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}, "no picture"),
        ({"type": "image", "mimeType": "image/png"}, "holds no picture"),
        ({"a": 1}, "its keys are a"),
    ],
)
async def test_what_a_client_may_not_give_is_an_error_of_one_line(given: Any, said: str, picture: Path) -> None:
    (picture.parent / "notes.txt").write_text("the secret")
    (picture.parent.parent / "a.png").write_bytes(picture.read_bytes())
    (picture.parent / "link.png").symlink_to(picture.parent.parent / "a.png")
    os.mkfifo(picture.parent / "pipe")
    async with asking(picture) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": given})
    text = result.content[0].text
    assert result.is_error and said in text and len(text.splitlines()) == 1, text
    assert "secret" not in text and str(picture.parent) not in text


async def test_without_a_folder_no_path_is_read(picture: Path) -> None:
    async with asking(None) as client:
        for given in (picture.name, str(picture), picture.as_uri(), {"type": "image", "url": picture.as_uri()}):
            result = await client.call_tool("ask", {"question": "When?", "image": given})
            assert result.is_error and "paths are turned off here" in result.content[0].text
