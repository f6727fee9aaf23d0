"""Finished questions as resources: what they tell, what they never hold, who may list them."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from lensgraph.agent import testing
from lensgraph.agent.images import ImageStore
from lensgraph.graphs import search_agent
from lensgraph.graphs.program.mcp_server import episode_shelf
from lensgraph.graphs.program.mcp_server.ask_server import AskServer

from .conftest import over_http

TURNS = ["<img_search>the tower</img_search>", "<text_search>lights</text_search>", "<answer>1987</answer>"]


def asking(turns: Any = TURNS, **options: Any) -> Client:
    fields = {key: options.pop(key) for key in ("store",) if key in options}
    return Client(AskServer(search_agent.graph, testing.context(turns, **fields), **options))


async def episode(client: Client, uri: str) -> dict[str, Any]:
    (content,) = (await client.read_resource(uri)).contents
    assert content.mime_type == "application/json"
    found: dict[str, Any] = json.loads(content.text)
    return found


async def test_an_episode_tells_every_step_and_holds_no_picture(uri: str, picture: Path) -> None:
    async with asking() as client:
        result = (await client.call_tool("ask", {"question": "When?", "image": uri})).structured_content
        told = await episode(client, result["episode"])
        listed = (await client.list_resources()).resources
    assert (told["question"], told["answer"], told["stop_reason"]) == ("When?", "1987", "answered")
    assert (told["sources"], told["usage"]) == (result["sources"], result["usage"])
    assert [step["node"] for step in told["steps"]] == [
        "reason", "crop", "image_search", "reason", "text_search", "reason",
    ]  # fmt: skip
    assert told["steps"][4]["hits"][0]["title"] == "Kestrel Point Light"
    assert told["steps"][1]["crop"]["box"] == [8, 8, 24, 24]
    assert base64.b64encode(picture.read_bytes()).decode()[:40] not in json.dumps(told)
    assert [(r.uri, r.title, r.mime_type) for r in listed] == [
        (result["episode"], "When?", "application/json"),
        (told["pictures"][0]["uri"], "a picture of the question", "image/png"),
        (told["steps"][1]["crop"]["uri"], "the crop of the tower", "image/png"),
    ]


async def test_the_pictures_of_an_episode_are_resources_with_their_bytes(uri: str) -> None:
    async with asking() as client:
        await client.call_tool("ask", {"question": "When?", "image": uri})
        for resource in (await client.list_resources()).resources[1:]:
            (content,) = (await client.read_resource(resource.uri)).contents
            data = base64.b64decode(content.blob)
            assert data.startswith(b"\x89PNG") and content.mime_type == "image/png"
            assert resource.uri.endswith(hashlib.sha256(data).hexdigest())


async def test_the_two_forms_of_address_are_templates() -> None:
    async with asking() as client:
        found = (await client.list_resource_templates()).resource_templates
    assert [t.uri_template for t in found] == ["lensgraph://episodes/{id}", "lensgraph://pictures/{id}"]


async def test_a_follow_up_tells_its_own_steps_only(uri: str) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    context = testing.context(lambda messages: "<answer>yes</answer>")
    server = AskServer(search_agent.build(InMemorySaver()), context, threads=True)
    async with Client(server) as client:
        first = (await client.call_tool("ask", {"question": "When?", "image": uri})).structured_content
        follow_up = {"question": "And now?", "thread": first["thread"]}
        second = (await client.call_tool("ask", follow_up)).structured_content
        told = await episode(client, second["episode"])
    assert (told["question"], len(told["steps"])) == ("And now?", 1)
    assert len(told["pictures"]) == 1


async def test_a_picture_of_nobodys_episode_is_not_given_out(uri: str, picture: Path) -> None:
    """The store may be shared with other programs; the address of a picture is the hash of its bytes."""
    store = ImageStore()
    other = store.add(picture.read_bytes())
    async with asking(store=store) as client:
        for name in (f"pictures/{other['id']}", "pictures/x", "episodes/x", "episodes/..%2Fx", "x"):
            with pytest.raises(MCPError, match="Unknown resource") as caught:
                await client.read_resource(f"lensgraph://{name}")
            assert caught.value.code == -32602
        identity = other["id"]
        for named in (
            identity,
            f" {identity}\n",
            {"type": "image", "id": identity},
            {"type": "image", "url": identity},
        ):
            asked = await client.call_tool("ask", {"question": "When?", "image": named})
            assert asked.is_error and "no such picture here" in asked.content[0].text, named
        assert all(identity not in one.uri for one in (await client.list_resources()).resources)


async def test_a_picture_that_was_dropped_from_memory_is_an_error_of_one_line(uri: str) -> None:
    store = ImageStore()
    async with asking(store=store) as client:
        await client.call_tool("ask", {"question": "When?", "image": uri})
        shown = (await client.list_resources()).resources[1]
        store._encoded.items.clear()
        with pytest.raises(MCPError, match="not in the image store any more") as caught:
            await client.read_resource(shown.uri)
    assert "\n" not in str(caught.value)


async def test_the_oldest_episode_goes_first(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_shelf, "MOST", 2)
    async with asking(lambda messages: "<answer>yes</answer>") as client:
        kept = [
            (await client.call_tool("ask", {"question": f"{n}?", "image": uri})).structured_content["episode"]
            for n in range(3)
        ]
        listed = [r.title for r in (await client.list_resources()).resources if r.uri in kept]
        with pytest.raises(MCPError, match="Unknown resource"):
            await client.read_resource(kept[0])
    assert listed == ["2?", "1?"]


async def test_an_error_in_a_step_tells_nothing_of_the_servers_folders(uri: str) -> None:
    async with over_http(token="t0ken") as client:
        result = await client.call_tool("ask", {"question": "Use the broken tool.", "image": uri})
        told = await episode(client, result.structured_content["episode"])
    errors = [step["error"] for step in told["steps"] if step.get("error")]
    assert len(errors) == 1 and "No such file or directory: (a path)" in errors[0]
    assert "/srv" not in json.dumps(told)


@pytest.mark.parametrize(("token", "listed"), [(None, 0), ("t0ken", 2)])
async def test_over_http_episodes_are_listed_only_to_who_holds_the_token(
    token: str | None, listed: int, uri: str
) -> None:
    """Without one there may be several callers on the machine. Who has the address reads it all the same."""
    async with over_http(token=token) as client:
        result = (await client.call_tool("ask", {"question": "When?", "image": uri})).structured_content
        assert len((await client.list_resources()).resources) == listed
        assert (await episode(client, result["episode"]))["answer"] == "1987"
