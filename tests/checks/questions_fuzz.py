"""Questions that are anything, through the graph: `python tests/checks questions-fuzz --count 20000 --seed 0`.

Each case is an input as a program, a chat client, the API or the command line gives it, with odd text, odd values and
odd shapes; some threads are asked again or sent a command. It must end typed, with a result that is plain JSON, or be refused
as a `UserError` of one line (on the command line: exit code 2 and one line). The same seed gives the same questions.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import random
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from fuzz_values import HALF, Fuzzed, flaw, text, value, varied
from fuzz_wire import http, in_memory
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pictures_fuzz import mutate
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.errors import UserError
from lensgraph.agent.images import ImageStore
from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.graphs import direct, rag, search_agent
from lensgraph.graphs.program import main as program

HANGS = 120.0
"""Seconds after which a case counts as hanging."""
LONGEST = 2_000
"""Characters of a refusal: it names a value and does not repeat all of it."""
REASONS = frozenset(map(str, StopReason))
DIALECTS = ("compact", "mmsearch_r1", "deepmmsearch_r1", "tools")
TURNS = {
    "compact": ["<text_search>q</text_search>", "<answer>1987</answer>"],
    "mmsearch_r1": ["<reason>r</reason><answer>1987</answer>"],
    "deepmmsearch_r1": ["<reason>r</reason><answer>1987</answer>"],
    "tools": ["1987"],
}
REFUSED = "refused"


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 16), 90).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


PNG = _png()
B64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{B64}"
BLOCKS: tuple[dict[str, Any], ...] = (
    {"type": "text", "text": "When was it built?"},
    {"type": "image", "base64": B64, "mime_type": "image/png"},
    {"type": "image", "url": URI},
    {"type": "image_url", "image_url": {"url": URI, "detail": "low"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
    {
        "type": "tool_result",
        "tool_use_id": "1",
        "content": [{"type": "text", "text": "x"}, {"type": "image", "url": URI}],
    },
    {"image": {"format": "png", "source": {"bytes": B64}}},
    {"type": "media", "mime_type": "image/png", "data": B64},
    {"inlineData": {"mimeType": "image/png", "data": B64}},
    {"type": "image", "image": URI, "min_pixels": 50176},
    {"type": "file", "mediaType": "image/png", "data": B64, "filename": "a.png"},
    {"type": "resource", "resource": {"uri": "file:///a.png", "mimeType": "image/png", "blob": B64}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "file", "file": {"file_id": "file-1"}},
)
"""Blocks of the chat clients that `agent/chat` reads or refuses by name."""
MESSAGES: tuple[Any, ...] = (
    {"role": "user", "content": "When was it built?"},
    {"role": "user", "content": [BLOCKS[0], BLOCKS[1]]},
    {"role": "user", "content": "When?", "images": [B64]},
    {"role": "assistant", "content": "Old.", "tool_calls": [{"id": "1", "name": "f", "args": {}, "type": "tool_call"}]},
    {"role": "system", "content": "Be brief."},
    {"role": "tool", "content": "found", "tool_call_id": "1"},
    {"type": "human", "content": "When?", "id": "m1"},
    {"type": "remove", "id": "m1", "content": ""},
    ["user", "When?"],
    "When?",
)  # fmt: skip
PATHS = (
    "/etc/passwd",
    "picture.png",
    "../../etc/passwd",
    "~/x.png",
    "file:///etc/passwd",
    "/dev/zero",
    "\0",
    "a\0b.png",
    "x" * 5000,
)
ADDRESSES = (
    "http://10.0.0.1/x.png",
    "http://[::1]/x.png",
    "http://[",
    "https://",
    "ftp://x/y",
    "data:,x",
    "http://127.0.0.1:9",
)
COMMANDS = (
    {"goto": "reason"}, {"goto": "answer"}, {"goto": "receive"}, {"goto": "text_search", "update": {"action": {}}},
    {"update": {"question": "And now?"}}, {"update": {"messages": ["And now?"]}}, {"resume": {"decision": "approve"}},
    {"goto": "crop", "update": {"action": {"kind": "crop", "region": "x"}}}, {"graph": "__parent__"}, {"resume": 7},
)  # fmt: skip


def odd_picture(chance: random.Random) -> Any:
    """A picture in a form that a program or a caller may give; every second one can be read."""
    if chance.random() < 0.5:
        return chance.choice((PNG, URI, B64, bytearray(PNG), BLOCKS[3], Path("picture.png")))
    modes = ("RGB", "P", "1", "F", "CMYK")
    return chance.choice((
        mutate(PNG, chance), "data:image/png;base64," + text(chance), URI[: chance.randrange(len(URI))], chance.choice(PATHS),
        Path(chance.choice(PATHS)), chance.choice(ADDRESSES), text(chance), value(chance), "0" * 64,
        Image.new(chance.choice(modes), (chance.choice((1, 9)), 1)), varied(BLOCKS[3], chance),
    ))  # fmt: skip


def odd_message(chance: random.Random) -> Any:
    """A message as an object, a dictionary, a pair or text, or what is none."""
    made = chance.choice(MESSAGES)
    if isinstance(made, dict) and chance.random() < 0.6:
        blocks = [chance.choice(BLOCKS) for _ in range(chance.randint(0, 3))]
        made = {**made, "content": chance.choice((text(chance), [varied(block, chance) for block in blocks], blocks))}
    if chance.random() < 0.3:
        kind: Any = chance.choice((HumanMessage, HumanMessage, AIMessage, SystemMessage))
        with contextlib.suppress(ValueError, TypeError):  # pydantic refuses it to the caller's program
            return kind(
                content=made["content"] if isinstance(made, dict) else text(chance), name=text(chance)[:20] or None
            )
        return ToolMessage(content=text(chance), tool_call_id="1", artifact=value(chance))
    return varied(made, chance) if chance.random() < 0.4 else made


def odd_input(chance: random.Random) -> Any:
    """An input of the graph."""
    match chance.randrange(10):
        case 0 | 1 | 2:
            return {
                "question": text(chance),
                "images": [odd_picture(chance) for _ in range(chance.choice((0, 1, 1, 2)))],
            }
        case 3:
            return {"question": value(chance), "images": odd_picture(chance)}
        case 4 | 5 | 6:
            chat = [odd_message(chance) for _ in range(chance.choice((0, 1, 1, 2, 5)))]
            asked = {"role": "user", "content": [{"type": "text", "text": "When? " + text(chance)}, BLOCKS[1]]}
            return {"messages": chance.choice((chat, [*chat, asked], [asked, *chat]))}
        case 7:
            both = {
                "question": "?",
                "images": [URI],
                "messages": [odd_message(chance)],
                "answer": "x",
                "steps": [],
                "": 1,
            }
            return {key: held for key, held in both.items() if chance.random() < 0.5}
        case 8:
            return varied({"messages": [MESSAGES[1], MESSAGES[0]]}, chance)
        case _:
            return chance.choice(
                ([], {}, "When?", 7, HumanMessage("When?"), [HumanMessage("?")], value(chance), {HALF: HALF})
            )


class Fuzzer:
    """The graphs, with a checkpointer, before a scripted policy and before a server that always answers."""

    def __init__(self) -> None:
        self.saver = InMemorySaver()
        self.graphs = [module.build(self.saver) for module in (search_agent, search_agent, rag, direct)]
        store = ImageStore(memory_bytes=4_000_000)
        self.contexts = {}
        for dialect in DIALECTS:
            script = _script(TURNS[dialect])
            self.contexts[dialect, "scripted"] = testing.context(script, dialect, store=store)
            served = OpenAICompatiblePolicy(model="m", base_url="http://127.0.0.1:9/v1", server="other", retries=0)
            self.contexts[dialect, "served"] = testing.context([], dialect, policy=served, store=store)

    async def case(self, number: int, seed: int) -> tuple[str, str]:
        """Run one case; returns its kind and its ending.

        Raises:
            Exception: whatever left the graph and is no refusal of one line.
        """
        chance = random.Random(f"{seed}/{number}")
        graph = chance.choice(self.graphs)
        name = (chance.choice(DIALECTS), chance.choice(("scripted", "scripted", "served")))
        context = self.contexts[name]
        if name[1] == "scripted":
            context.policy.seen.clear()
        thread: Any = {"configurable": {"thread_id": str(number)}}
        given: list[Any] = [odd_input(chance)]
        if chance.random() < 0.25:
            given.insert(0, {"question": "What is it?", "images": [PNG]})
            if chance.random() < 0.5:
                given[1] = self._command(chance)
        endings = []
        try:
            async with asyncio.timeout(HANGS):
                for one in given:
                    endings.append(await self._ask(graph, one, thread, context))
        finally:
            self.saver.delete_thread(str(number))
        kind = "command" if isinstance(given[-1], Command) else type(given[-1]).__name__
        if isinstance(given[-1], dict):
            kind = "+".join(key for key in ("question", "images", "messages") if key in given[-1]) or "other keys"
        return f"{kind}{', asked again' if len(given) > 1 and kind != 'command' else ''}", endings[-1]

    def _command(self, chance: random.Random) -> Any:
        fields = chance.choice(COMMANDS)
        fields = varied(fields, chance) if chance.random() < 0.5 else fields
        if not isinstance(fields, dict):
            return fields
        with contextlib.suppress(TypeError):
            return Command(**{key: held for key, held in fields.items() if key in ("goto", "update", "resume")})
        return fields

    async def _ask(self, graph: Any, given: Any, thread: Any, context: Any) -> str:
        if given is None:  # to go on with a thread that nobody has begun is LangGraph's to refuse
            return REFUSED
        try:
            result = await graph.ainvoke(given, thread, context=context)
        except UserError as error:
            return _checked(str(error))
        if (wrong := flaw(result, REASONS)) is not None:
            raise AssertionError(wrong)
        return str(result["stop_reason"])


def _checked(line: str) -> str:
    if not line or "\n" in line or len(line) > LONGEST:
        raise AssertionError(f"a refusal that is no line of at most {LONGEST} characters: {line[:300]!r}")
    line.encode()  # half a character cannot be printed
    return REFUSED


def _script(turns: list[str]) -> Callable[[Any], str]:
    def turn(messages: Any) -> str:
        said = 0
        for message in reversed(messages):
            if message.type == "ai":
                said += 1
        return turns[min(said, len(turns) - 1)]

    return turn


def _served(request: bytes) -> bytes:
    """A policy's server that answers whatever it is asked, after it has read the request as JSON."""
    json.loads(request.partition(b"\r\n\r\n")[2])
    turn = {"choices": [{"message": {"content": "<answer>1987</answer>"}, "finish_reason": "stop"}]}
    return http(json.dumps(turn).encode(), "application/json", random.Random(0), honest=True)


def on_the_command_line(number: int, seed: int, settings: Path) -> tuple[str, str]:
    """`lensgraph ask` with odd words; an argument is bytes, which Python decodes with half characters for odd ones.

    Raises:
        BaseException: whatever left the program, or an ending that is none of its own.
    """
    chance = random.Random(f"{seed}/{number}/words")
    picture = settings.with_name("picture.png")
    words = [str(picture), text(chance)]
    if chance.random() < 0.6:
        words[0] = str(chance.choice((*PATHS, *ADDRESSES, URI, text(chance), "\udcff.png", "")))
    if chance.random() < 0.3:
        words.append(f"limits.turns={text(chance)[:20]}")
    if chance.random() < 0.2:
        words += chance.choice((["--set", text(chance)], ["--json"], [text(chance)], ["--", "--json"]))
    chance.shuffle(words) if chance.random() < 0.1 else None
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: Any = program.main(["ask", *words, "--config", str(settings)])
        except SystemExit as stop:
            code = stop.code
    said = err.getvalue()
    if code not in (0, 1, 2) or "Traceback" in said:
        raise AssertionError(f"exit code {code}: {said[:500]!r}")
    if code == 2 and (said.strip().count("\n") or not said.strip()):
        raise AssertionError(f"exit code 2 and not one line: {said[:500]!r}")
    return "command line", f"exit {code}"


def run(count: int, seed: int, *, words: float = 0.03, only: int | None = None) -> Fuzzed:
    """Run the cases; a share of `words` on the command line."""
    found = Fuzzed()
    logging.disable(logging.CRITICAL)
    before = Path.cwd()
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            os.chdir(folder)
            Path("picture.png").write_bytes(PNG)
            settings = Path(folder, "settings.yaml")
            settings.write_text(yaml.safe_dump(_settings()))
            numbers = range(count) if only is None else [only]
            chosen = [n for n in numbers if random.Random(f"{seed}/{n}/where").random() < words]
            asyncio.run(_run([n for n in numbers if n not in set(chosen)], seed, found))
            for number in chosen:
                _one(lambda number=number: on_the_command_line(number, seed, settings), number, found)  # type: ignore[misc]
    finally:
        os.chdir(before)
        logging.disable(logging.NOTSET)
    return found


def _settings() -> dict[str, Any]:
    policy = {"kind": "lensgraph.agent.policy.scripted:ScriptedPolicy", "options": {"turns": ["<answer>1987</answer>"]}}
    kinds = (("text_search", "Text"), ("image_search", "Image"), ("locate", "Locator"))
    return {"policy": policy, "tools": {kind: {"use": f"lensgraph.agent.testing:Fixed{name}"} for kind, name in kinds}}


async def _run(numbers: list[int], seed: int, found: Fuzzed) -> None:
    with in_memory(_served):
        fuzzer = Fuzzer()
        for number in numbers:
            began = time.perf_counter()
            try:
                outcome = await fuzzer.case(number, seed)
            except BaseException as error:
                outcome = _noted(error, number, found)
            _counted(outcome, began, found)


def _one(case: Callable[[], tuple[str, str]], number: int, found: Fuzzed) -> None:
    began = time.perf_counter()
    try:
        outcome = case()
    except BaseException as error:
        outcome = _noted(error, number, found)
    _counted(outcome, began, found)


def _noted(error: BaseException, number: int, found: Fuzzed) -> tuple[str, str]:
    if isinstance(error, KeyboardInterrupt):
        raise error
    found.raw.append(f"case {number}: {''.join(traceback.format_exception(error, limit=-6))}")
    return "raised", type(error).__name__


def _counted(outcome: tuple[str, str], began: float, found: Fuzzed) -> None:
    found.kinds[outcome[0]] += 1
    found.endings[outcome[1]] += 1
    found.slowest = max(found.slowest, time.perf_counter() - began)
