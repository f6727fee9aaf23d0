"""Kill -9 in every node, then go on in a new process: the answer arrives, and no search is sent twice.

An exception proves nothing here, because LangGraph saves what it can on the way out; so the program below kills itself.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from langgraph.runtime import ExecutionInfo, Runtime
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.errors import StorageError
from lensgraph.agent.images import ImageStore
from lensgraph.agent.nodes import once
from lensgraph.agent.savers import saver
from lensgraph.graphs import search_agent
from lensgraph.tools.results import Hit, SearchResult

pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")

PROGRAM = '''
import asyncio, functools, importlib, json, os, signal, sys
from pathlib import Path
from lensgraph.agent import nodes
from lensgraph.agent import testing
from lensgraph.agent.images import ImageStore
from lensgraph.agent.savers import saver
from lensgraph.agent.state import EVERYTHING

address, folder, die, given, name_of_graph = sys.argv[1], Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), sys.argv[5]
visits = {}


def here(place):
    """Die in this place, if it is the one."""
    visits[place] = visits.get(place, 0) + 1
    if die == f"{place} {visits[place]}":
        os.kill(os.getpid(), signal.SIGKILL)


def mortal(name, node):
    @functools.wraps(node)
    async def run(state, runtime):
        here(f"before {name}")
        update = await node(state, runtime)
        here(f"after {name}")
        return update
    return run


module = importlib.import_module(f"lensgraph.graphs.{name_of_graph}")
own = nodes if name_of_graph == "search_agent" else module  # where the functions of the nodes stand
for name in ("receive", "reason", "crop", "image_search", "query", "text_search", "conclude", "answer"):
    if hasattr(own, name):
        setattr(own, name, mortal(name, getattr(own, name)))


def paid(kind, base):
    class Paid(base):
        """Counts in a file what is sent, and may die before the result is there."""

        price_per_call: float = 0.01

        async def asearch(self, what):
            with open(folder / f"{kind}.sent", "a") as file:
                file.write("1")
            here(f"sent {kind}")
            return await super().asearch(what)
    return Paid()


SCRIPT = [
    "<img_search>the white tower</img_search>", "<text_search>kestrel</text_search>",
    "<reason>It says so.</reason><answer>1987</answer>",
][0 if name_of_graph == "search_agent" else 1:]
dialect = sys.argv[6]
if dialect == "tools":  # one turn that asks for everything, and for the same words twice
    call = '<tool_call>{"name": "%s", "arguments": {%s}}</tool_call>'
    words = call % ("text_search", '"query": "kestrel"')
    SCRIPT = [words + call % ("image_search", '"region": "it"') + words, call % ("answer", '"text": "1987"')]


def turns(messages):
    if "called" in messages[0].text:
        return "<answer>Kestrel Point</answer>" if "base64" in messages[0].content[0] else "<answer>blind</answer>"
    return SCRIPT[sum(message.type == "ai" for message in messages)]


async def main():
    context = testing.context(
        turns, dialect, text_search=paid("text", testing.FixedText), image_search=paid("image", testing.FixedImage),
        store=ImageStore(folder / "pictures", local_files=True),
    )
    async with saver(address) as checkpoints:
        graph = module.build(checkpoints)  # after the nodes were replaced
        thread = {"configurable": {"thread_id": "1"}}
        state = await graph.ainvoke(given, thread, context=context, output_keys=EVERYTHING)
    dialogue = [message.text for message in state["dialogue"]]
    print(json.dumps({
        "answer": state["answer"], "steps": [step["node"] for step in state["steps"]], "dialogue": dialogue,
        "messages": len(state["messages"]), "price": state["usage"]["price"],
    }))


asyncio.run(main())
'''
WHOLE = ["reason", "crop", "image_search", "reason", "text_search", "reason"]
PLACES = [
    *(f"{moment} {node} 1" for node in ("receive", "reason", "crop", "image_search", "text_search", "answer")
      for moment in ("before", "after")),
    "before reason 2", "after reason 2", "before reason 3", "after reason 3",
]  # fmt: skip


def run(
    tmp_path: Path, address: str, die: str, given: Any, graph: str = "search_agent", dialect: str = "compact"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, address, str(tmp_path), die, json.dumps(given), graph, dialect]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def sent(tmp_path: Path) -> dict[str, int]:
    """Number of times that each search was sent."""
    return {kind: len((tmp_path / f"{kind}.sent").read_text()) for kind in ("image", "text")}


def question(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "picture.png"
    Image.effect_noise((64, 48), 90).convert("RGB").save(path)
    return {"question": "When was it automated?", "images": [str(path)]}


def killed_and_resumed(
    tmp_path: Path, address: str, place: str, graph: str = "search_agent", dialect: str = "compact"
) -> dict[str, Any]:
    """The output of the second process."""
    given = question(tmp_path)
    first = run(tmp_path, address, place, given, graph, dialect)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert first.stdout == ""
    Path(given["images"][0]).unlink()  # the input is the thread's now
    second = run(tmp_path, address, "", None, graph, dialect)
    assert second.returncode == 0, second.stderr
    return json.loads(second.stdout)


@pytest.mark.parametrize(
    "place",
    [
        "after text_search 1", "sent text 2",
        *(pytest.param(place, marks=pytest.mark.slow) for place in (
            "after reason 1", "before crop 1", "sent image 1", "before reason 3", "after text_search 2",
        )),
    ],
)  # fmt: skip
def test_a_turn_of_several_calls_that_is_killed_in_the_middle_serves_the_rest_once(tmp_path: Path, place: str) -> None:
    result = killed_and_resumed(tmp_path, f"sqlite:///{tmp_path}/threads.db", place, dialect="tools")
    nodes = ["reason", "text_search", "crop", "image_search", "text_search", "reason"]
    assert (result["answer"], result["steps"]) == ("1987", nodes)
    assert sent(tmp_path) == {"image": 1, "text": 2}
    told = sum("cut off when the program was stopped" in message for message in result["dialogue"])
    assert told == place.startswith("sent")


@pytest.mark.parametrize(
    "place", [place if "search" in place else pytest.param(place, marks=pytest.mark.slow) for place in PLACES]
)
def test_a_run_killed_in_a_node_goes_on_in_a_new_process(tmp_path: Path, place: str) -> None:
    result = killed_and_resumed(tmp_path, f"sqlite:///{tmp_path}/threads.db", place)
    assert (result["answer"], result["steps"], result["messages"]) == ("1987", WHOLE, 2)
    assert result["price"] == {"reason": 0.0, "crop": 0.0, "image_search": 0.01, "text_search": 0.01}
    assert sent(tmp_path) == {"image": 1, "text": 1}


@pytest.mark.slow
@pytest.mark.parametrize("place", [f"{moment} {node} 1" for node in ("image_search", "text_search", "conclude")
                                   for moment in ("before", "after")])  # fmt: skip
def test_the_baseline_that_always_searches_goes_on_too(tmp_path: Path, place: str) -> None:
    result = killed_and_resumed(tmp_path, f"sqlite:///{tmp_path}/threads.db", place, "rag")
    assert (result["answer"], result["steps"]) == ("1987", ["image_search", "reason", "text_search", "reason"])
    assert sent(tmp_path) == {"image": 1, "text": 1}


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_search_that_was_in_flight_is_not_sent_again_and_the_policy_is_told(tmp_path: Path, kind: str) -> None:
    result = killed_and_resumed(tmp_path, f"sqlite:///{tmp_path}/threads.db", f"sent {kind} 1")
    assert (result["answer"], result["steps"]) == ("1987", WHOLE)
    assert sent(tmp_path) == {"image": 1, "text": 1}
    assert sum("cut off when the program was stopped" in message for message in result["dialogue"]) == 1
    other = {"image": "text_search", "text": "image_search"}[kind]
    assert result["price"][other] == 0.01 and result["price"][f"{kind}_search"] == 0.0


def test_a_follow_up_in_a_third_process_is_about_the_same_picture(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/threads.db"
    killed_and_resumed(tmp_path, address, "before answer 1")
    third = run(tmp_path, address, "", {"question": "And what is it called?"})
    assert third.returncode == 0, third.stderr
    result = json.loads(third.stdout)
    assert (result["answer"], result["messages"]) == ("Kestrel Point", 4)
    assert result["dialogue"][-2] == "And what is it called?"


POSTGRES = os.environ.get("LENSGRAPH_TEST_POSTGRES", "")


@pytest.mark.skipif(not POSTGRES, reason="LENSGRAPH_TEST_POSTGRES holds no address of an empty PostgreSQL database")
@pytest.mark.parametrize("place", ["before receive 1", "after text_search 1", "sent image 1", "before answer 1"])
async def test_the_same_on_postgres(tmp_path: Path, place: str) -> None:
    async with saver(POSTGRES) as checkpoints:
        await checkpoints.adelete_thread("1")
    result = await asyncio.to_thread(killed_and_resumed, tmp_path, POSTGRES, place)
    assert (result["answer"], result["steps"]) == ("1987", WHOLE)
    assert sent(tmp_path) == {"image": 1, "text": 1}


# --- the record of a search


def runtime(thread: str | None = "1") -> Runtime[Any]:
    info = ExecutionInfo(checkpoint_id="c", checkpoint_ns="text_search:8a", task_id="t", thread_id=thread)
    return Runtime(execution_info=info)


STATE: Any = {"started": 1.5, "steps": [], "action": {}}
FAILED = SearchResult(kind="text", query="q")


class Free(testing.FixedText):
    """Costs nothing."""

    repeatable = True


async def look(
    tmp_path: Path,
    calls: list[str],
    tool: Any = None,
    state: Any = STATE,
    run: Any = None,
    what: str = "q",
    begun: asyncio.Event | None = None,
) -> SearchResult:
    async def make() -> SearchResult:
        calls.append(what)
        if begun is not None:
            begun.set()
        await asyncio.sleep(0.05)
        return SearchResult(kind="text", query=what, hits=[Hit(title="t", url="u", thumbnail=b"\xff\x00")])

    tool = tool or testing.FixedText()
    return await once.once(make, FAILED, what, tool, state, ImageStore(tmp_path), run or runtime())


async def test_a_search_is_made_once_and_its_result_comes_back_whole(tmp_path: Path) -> None:
    calls: list[str] = []
    first = await look(tmp_path, calls)
    assert await look(tmp_path, calls) == first
    assert (calls, first.hits[0].thumbnail) == (["q"], b"\xff\x00")


async def test_two_that_resume_at_once_make_one_call(tmp_path: Path) -> None:
    calls: list[str] = []
    results = await asyncio.gather(*(look(tmp_path, calls) for _ in range(4)))
    assert calls == ["q"]
    assert [result.error for result in results] == [None] * 4


async def test_another_question_turn_thread_or_query_is_another_search(tmp_path: Path) -> None:
    calls: list[str] = []
    await look(tmp_path, calls)
    await look(tmp_path, calls, state={**STATE, "started": 2.5})
    await look(tmp_path, calls, state={**STATE, "steps": [{}]})
    await look(tmp_path, calls, run=runtime("2"))
    await look(tmp_path, calls, what="p")
    assert len(calls) == 5


async def test_without_a_thread_or_a_folder_nothing_is_written(tmp_path: Path) -> None:
    calls: list[str] = []
    for _ in range(2):
        await look(tmp_path, calls, run=runtime(None))
    assert (len(calls), list(tmp_path.iterdir())) == (2, [])


@pytest.mark.parametrize(("tool", "again"), [(testing.FixedText(), False), (Free(), True)])
async def test_only_a_free_search_that_was_cut_off_is_made_again(tmp_path: Path, tool: Any, again: bool) -> None:
    calls: list[str] = []
    begun = asyncio.Event()
    task = asyncio.create_task(look(tmp_path, calls, tool, begun=begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    result = await look(tmp_path, calls, tool)
    assert (len(calls) == 2, result.error is None) == (again, again)


DAMAGE = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "random": lambda whole: random.Random(0).randbytes(len(whole)),
    "another": lambda whole: b'{"kind": "song"}',
    "deep": lambda whole: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("tool", "again"), [(testing.FixedText(), False), (Free(), True)])
async def test_a_search_whose_record_is_damaged_is_made_again_only_if_it_is_free(
    tmp_path: Path, damage: str, tool: Any, again: bool
) -> None:
    """The policy is told; what was paid for is not paid for a second time."""
    calls: list[str] = []
    whole = await look(tmp_path, calls, tool)
    (record,) = (tmp_path / once.FOLDER).glob("*.json")
    record.write_bytes(DAMAGE[damage](record.read_bytes()))
    for _ in range(2):  # the thread goes on, however often it is resumed
        result = await look(tmp_path, calls, tool)
        assert (result == whole, result.error is None) == (again, again)
    assert len(calls) == 1 + again
    if not again:
        assert "damaged" in result.error.message and result.error.reason == "unavailable"


async def test_a_record_that_is_a_folder_is_one_line_until_it_is_mended(tmp_path: Path) -> None:
    calls: list[str] = []
    whole = await look(tmp_path, calls)
    (record,) = (tmp_path / once.FOLDER).glob("*.json")
    kept = record.read_bytes()
    record.unlink()
    record.mkdir()
    with pytest.raises(StorageError, match=r"cannot be used \(Is a directory\)"):
        await look(tmp_path, calls)
    record.rmdir()
    record.write_bytes(kept)
    assert await look(tmp_path, calls) == whole
    assert calls == ["q"]


@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=pytest.mark.slow) for name in DAMAGE if name != "cut"] + ["cut"]
)
def test_a_thread_with_a_damaged_record_goes_on_in_a_new_process(tmp_path: Path, damage: str) -> None:
    address = f"sqlite:///{tmp_path}/threads.db"
    assert run(tmp_path, address, "after text_search 1", question(tmp_path)).returncode == -signal.SIGKILL
    records = tmp_path / "pictures" / once.FOLDER
    newest = max(records.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    second = run(tmp_path, address, "", None)
    assert second.returncode == 0, second.stderr
    result = json.loads(second.stdout)
    assert (result["answer"], result["steps"]) == ("1987", WHOLE)
    assert sent(tmp_path) == {"image": 1, "text": 1}
    assert sum("record of this search is damaged" in message for message in result["dialogue"]) == 1


async def test_what_is_paid_for_is_on_the_disk_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The announcement before the call, the result before the node goes on: each file, then the folder that names it."""
    synced: list[str] = []
    real = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).partition(".")[2].split(".")[0])
        real(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the names of open files are read from /proc")
    monkeypatch.setattr(os, "fsync", watch)
    calls: list[str] = synced
    await look(tmp_path, calls)
    assert calls == ["sent", "", "q", "json", ""]


async def test_a_record_in_use_is_not_swept_however_old_the_clock_says_it_is(tmp_path: Path) -> None:
    folder = tmp_path / once.FOLDER
    folder.mkdir()
    for name in ("busy.sent", "busy.lock"):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    with FileLock(folder / "busy.lock"):
        await look(tmp_path, [])
    assert (folder / "busy.sent").exists() and (folder / "busy.lock").exists()


async def test_old_records_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / once.FOLDER
    folder.mkdir()
    (folder / "old.json").write_text("{}")
    os.utime(folder / "old.json", (0, 0))
    (folder / "new.json").write_text("{}")
    await look(tmp_path, [])
    assert not (folder / "old.json").exists() and (folder / "new.json").exists()


async def test_a_graph_without_a_checkpointer_leaves_no_record(tmp_path: Path) -> None:
    context = testing.context(["<text_search>q</text_search>", "<answer>a</answer>"], store=ImageStore(tmp_path))
    result = await search_agent.graph.ainvoke({"question": "?"}, context=context)
    assert result["answer"] == "a"
    assert list(tmp_path.iterdir()) == []
