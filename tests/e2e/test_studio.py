"""`langgraph dev` as Studio uses it: offline, on a free port, with a picture in the input."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from PIL import Image

POLICY = '''
from lensgraph.agent.policy.scripted import ScriptedPolicy


class Policy(ScriptedPolicy):
    """Searches with a region, then answers; every run starts anew."""

    def __init__(self, **fields):
        def turn(messages):
            if len(messages) == 1:
                return "<reason>Unknown.</reason><img_search>the left half</img_search>"
            return "<answer>" + ("picture seen" if messages[0].content[0].get("base64") else "blind") + "</answer>"

        super().__init__(turn, **fields)
'''
CONFIG = """
policy: {kind: "studio_policy:Policy"}
tools:
  text_search: {use: "lensgraph.agent.testing:FixedText"}
  image_search: {use: "lensgraph.agent.testing:FixedImage"}
  locate: {use: "lensgraph.agent.testing:FixedLocator"}
"""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The development server, started with the repository's own langgraph.json."""
    pytest.importorskip("langgraph_api", reason="needs lensgraph[studio]")
    folder = tmp_path_factory.mktemp("studio")
    (folder / "studio_policy.py").write_text(POLICY)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "langgraph.json").write_text(
        json.dumps(
            {
                **json.loads((repository / "langgraph.json").read_text()),
                "dependencies": [str(repository)],
                "graphs": {
                    name: {**spec, "path": str(repository / spec["path"])}
                    for name, spec in json.loads((repository / "langgraph.json").read_text())["graphs"].items()
                },
            }
        )
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {
        **os.environ,
        "LANGSMITH_TRACING": "false",
        "LENSGRAPH_CONFIG": str(folder / "config.yaml"),
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["langgraph", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            for _ in range(240):
                try:
                    client.get("/ok").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, (folder / "log.txt").read_text()
                    time.sleep(0.25)
            yield client
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def assistant(server: httpx.Client, graph: str) -> str:
    found = server.post("/assistants/search", json={"graph_id": graph}).raise_for_status().json()
    return found[0]["assistant_id"]


def stream(server: httpx.Client, graph: str, given: dict[str, Any], **body: Any) -> list[tuple[str, Any]]:
    """Run a graph without a thread and return its events."""
    events: list[tuple[str, Any]] = []
    payload = {"assistant_id": graph, "input": given, "stream_mode": ["updates", "values"], **body}
    with server.stream("POST", "/runs/stream", json=payload) as response:
        response.raise_for_status()
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    return events


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": picture(), "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture()}"}},
    ],
)
def test_a_run_with_a_picture_streams_every_node_and_ends_in_the_answer(
    server: httpx.Client, block: dict[str, Any]
) -> None:
    message = {"role": "user", "content": [block, {"type": "text", "text": "What is this?"}]}
    events = stream(server, "search_agent", {"messages": [message]})
    assert [data for name, data in events if name == "error"] == []
    updates = [data for name, data in events if name == "updates"]
    assert [node for data in updates for node in data] == [
        "receive", "reason", "crop", "image_search", "reason", "answer",
    ]  # fmt: skip
    assert updates[1]["reason"]["steps"][0]["thought"] == "Unknown."
    assert updates[2]["crop"]["steps"][0]["crop"]["box"] == [8, 8, 24, 24]
    assert updates[3]["image_search"]["steps"][0]["hits"][0]["title"] == "Kestrel Point Light"
    last = [data for name, data in events if name == "values"][-1]
    assert (last["answer"], last["stop_reason"]) == ("picture seen", "answered")
    assert last["messages"][-1]["content"] == "picture seen"
    assert picture() not in json.dumps(last), "the state holds ids, not pictures"


def test_a_question_with_its_pictures_is_the_other_input_form(server: httpx.Client) -> None:
    given = {"question": "What is this?", "images": [f"data:image/png;base64,{picture()}"]}
    events = stream(server, "search_agent", given, context={"max_image_searches": 0, "lenient": True})
    last = [data for name, data in events if name == "values"][-1]
    assert last["usage"]["searches"] == {"image": 0, "text": 0}
    assert last["answer"] == "picture seen"


@pytest.mark.parametrize("graph", ["search_agent", "rag", "direct"])
@pytest.mark.parametrize("form", ["images", "block"])
def test_no_caller_names_a_file_of_the_server(server: httpx.Client, tmp_path: Path, graph: str, form: str) -> None:
    """Neither a picture, nor a file that holds none, nor one that is missing: the answer is the same."""
    (tmp_path / "a.png").write_bytes(base64.b64decode(picture()))
    os.mkfifo(tmp_path / "pipe.png")
    told = set()
    for path in (str(tmp_path / "a.png"), str(tmp_path / "none.png"), "/etc/passwd", str(tmp_path / "pipe.png")):
        block = {"role": "user", "content": [{"type": "image", "url": path}, {"type": "text", "text": "?"}]}
        given = {"question": "?", "images": [path]} if form == "images" else {"messages": [block]}
        events = stream(server, graph, given)
        told |= {json.dumps(data).replace(path, "PATH") for name, data in events if name == "error"}
        assert not [data for name, data in events if name == "updates"], "nothing ran"
    assert len(told) == 1 and "paths are turned off here" in told.pop()


@pytest.mark.parametrize(
    ("graph", "nodes"),
    [
        ("direct", ["receive", "reason", "answer"]),
        ("rag", ["receive", "image_search", "query", "text_search", "conclude", "answer"]),
    ],
)
def test_the_baselines_run_too(server: httpx.Client, graph: str, nodes: list[str]) -> None:
    given = {"question": "What is this?", "images": [f"data:image/png;base64,{picture()}"]}
    events = stream(server, graph, given)
    assert [node for name, data in events if name == "updates" for node in data] == nodes


@pytest.mark.parametrize("graph", ["search_agent", "rag", "direct"])
def test_the_sdk_streams_the_events_and_the_answer_once(server: httpx.Client, graph: str) -> None:
    """LangGraph's own client reads typed events, and a chat that shows one message."""
    given = {"question": "What is this?", "images": [f"data:image/png;base64,{picture()}"]}
    found, shown = [], {}
    with get_sync_client(url=str(server.base_url)) as client:
        for part in client.runs.stream(None, graph, input=given, stream_mode=["custom", "messages-tuple"]):
            assert part.event != "error", part.data
            if part.event == "custom":
                found.append(part.data)
            elif part.event == "messages":
                message = part.data[0]
                shown[message["id"]] = shown.get(message["id"], "") + message["content"]
    assert {"thought", "action", "cost", "end"} <= {event["type"] for event in found}
    (said,) = shown.values()
    answer = "".join(event["text"] for event in found if event["type"] == "answer")
    if graph == "direct":  # the policy searches in its only turn
        assert (answer, found[-1]["stop_reason"], said) == (
            "", "search_limit", "I have no answer within the allowed searches.",
        )  # fmt: skip
    else:
        assert answer == found[-1]["answer"] == said != ""
    assert picture()[:64] not in json.dumps(found)


def test_a_wrong_setting_is_refused_with_its_name(server: httpx.Client) -> None:
    events = stream(server, "direct", {"question": "?"}, context={"max_turns": 0})
    assert "max_turns" in json.dumps([data for name, data in events if name == "error"])


def test_a_caller_raises_no_limit_and_forges_no_count(server: httpx.Client) -> None:
    events = stream(server, "search_agent", {"question": "?"}, context={"max_turns": 50})
    assert "max_turns=50: above the ceiling of 6" in json.dumps([data for name, data in events if name == "error"])
    events = stream(server, "search_agent", {"question": "?"}, context={"dialect": "mmsearch_r1"})
    assert "dialect=mmsearch_r1: not offered here" in json.dumps([data for name, data in events if name == "error"])
    forged = {"goto": {"node": "text_search", "input": {"steps": []}}, "update": {"first_step": 99}}
    thread = server.post("/threads", json={}).raise_for_status().json()["thread_id"]
    for command in (forged, {"update": {"first_step": 99}}, {"goto": "text_search"}):
        reply = server.post(
            f"/threads/{thread}/runs/wait", json={"assistant_id": "search_agent", "command": command}
        ).json()
        assert "BadInput" in json.dumps(reply) and "Command(" in json.dumps(reply), reply


def test_schemas_list_the_input_and_the_settings_with_their_descriptions(server: httpx.Client) -> None:
    schemas = server.get(f"/assistants/{assistant(server, 'search_agent')}/schemas").raise_for_status().json()
    assert set(schemas["input_schema"]["properties"]) == {"messages", "question", "images"}
    assert "path" not in json.dumps(schemas["input_schema"]["properties"]["images"]), "no file can be named"
    assert {"messages", "answer", "sources", "usage", "stop_reason"} <= set(schemas["output_schema"]["properties"])
    settings = schemas["context_schema"]["properties"]
    assert set(settings) == {
        "policy", "dialect", "lenient", "max_turns", "max_image_searches", "max_text_searches", "approve",
    }  # fmt: skip
    assert all(setting["description"] for setting in settings.values())


def test_the_drawing_has_exactly_the_legal_edges(server: httpx.Client) -> None:
    drawn = server.get(f"/assistants/{assistant(server, 'search_agent')}/graph").raise_for_status().json()
    edges = {(edge["source"], edge["target"]) for edge in drawn["edges"]}
    assert edges == {
        ("__start__", "receive"),
        ("receive", "reason"),
        ("reason", "crop"),
        ("reason", "image_search"),
        ("reason", "text_search"),
        ("reason", "answer"),
        ("reason", "reason"),
        ("crop", "image_search"),
        ("crop", "reason"),
        ("image_search", "reason"),
        ("text_search", "reason"),
        ("answer", "__end__"),
    }


@pytest.fixture
def sdk(server: httpx.Client) -> Iterator[Any]:
    """LangGraph's own client."""
    with pytest.importorskip("langgraph_sdk").get_sync_client(url=str(server.base_url), headers={}) as client:
        yield client


def edited(name: str, **args: Any) -> dict[str, Any]:
    return {"resume": {"type": "edit", "edited_action": {"name": name, "args": args}}}


@pytest.mark.parametrize(
    ("command", "searches", "box"),
    [
        ({"resume": {"type": "approve"}}, 1, [8, 8, 24, 24]),
        ({"resume": {"decisions": [{"type": "approve"}]}}, 1, [8, 8, 24, 24]),
        (edited("image_search", box=[0, 0, 30, 20]), 1, [0, 0, 30, 20]),
        ({"resume": {"type": "reject", "message": "No faces."}}, 0, None),
    ],
    ids=["approve", "langchains approve", "edit", "reject"],
)
def test_a_search_waits_for_the_person_who_uses_the_sdk(
    sdk: Any, command: dict[str, Any], searches: int, box: Any
) -> None:
    """LangGraph's own client; Studio speaks the same API. The answer is given without the context that asked for it."""
    thread = sdk.threads.create()["thread_id"]
    given = {"question": "What is this?", "images": [f"data:image/png;base64,{picture()}"]}
    sdk.runs.wait(thread, "search_agent", input=given, context={"approve": ["image_search"]})
    (waiting,) = sdk.threads.get_state(thread)["interrupts"]
    assert waiting["value"]["picture"]["box"] == [8, 8, 24, 24] and picture()[:60] not in json.dumps(waiting)
    assert "$defs" in waiting["response_schema"], "a page may draw a form from it"
    for value in ({"type": "perhaps"}, {}, "yes", ["approve"], {"f" * 32: "approve"}):
        reply = sdk.runs.wait(thread, "search_agent", command={"resume": value}, raise_error=False)
        assert reply["__error__"]["error"] == "BadInput" and "\n" not in reply["__error__"]["message"].strip(), value
        assert [one["id"] for one in sdk.threads.get_state(thread)["interrupts"]] == [waiting["id"]], value
    result = sdk.runs.wait(thread, "search_agent", command=command)
    assert (result["answer"], result["usage"]["searches"]["image"]) == ("picture seen", searches)
    assert [step["crop"]["box"] for step in result["steps"] if step["node"] == "image_search" and searches] == [
        box
    ] * searches


def test_an_update_over_the_api_lets_a_run_go_on_and_forges_nothing(sdk: Any) -> None:
    thread = sdk.threads.create()["thread_id"]
    given = {"question": "What is this?", "images": [f"data:image/png;base64,{picture()}"]}
    sdk.runs.wait(thread, "search_agent", input=given, interrupt_before=["image_search"])
    for values, node in (({"steps": []}, None), ({"first_step": 99}, None), ({}, "image_search")):
        with pytest.raises(Exception, match=r"^Command\(update=|^update_state\(as_node="):
            sdk.threads.update_state(thread, values, as_node=node)
    sdk.threads.update_state(thread, {"messages": [{"role": "user", "content": "By the way."}]})
    assert sdk.threads.get_state(thread)["next"] == ["image_search"]
    assert sdk.runs.wait(thread, "search_agent", input=None)["answer"] == "picture seen"


def test_a_command_to_a_search_that_waits_may_be_sent_again(sdk: Any) -> None:
    thread = sdk.threads.create()["thread_id"]
    given = {"question": "What is this?", "images": [f"data:image/png;base64,{picture()}"]}
    sdk.runs.wait(thread, "search_agent", input=given, context={"approve": ["image_search"]})
    whole = {"goto": "image_search", "update": {"action": {"kind": "image_search", "region": None}}}
    for _ in range(2):
        sdk.runs.wait(thread, "search_agent", command=whole)
        assert sdk.threads.get_state(thread)["interrupts"][0]["value"]["picture"]["box"] is None
    result = sdk.runs.wait(thread, "search_agent", command={"resume": "approve"})
    assert (result["answer"], result["usage"]["searches"]["image"]) == ("picture seen", 1)
