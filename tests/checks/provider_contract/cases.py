"""The cases of the contract: a provider whose service answers, is late, busy, broken, wrong, empty or endless.

Invariant: a case says in words what happened, and raises `Broken` when that is not what the contract asks for. Every case is
run from synchronous and from asynchronous code, and must end alike.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from lensgraph.tools import registry
from lensgraph.tools.base import LensTool
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.safety.one_line import named_line
from lensgraph.tools.safety.redact import blot
from provider_contract.harness import (
    PATIENCE,
    Broken,
    Ear,
    build,
    call,
    counted,
    described,
    failing,
    key_of,
    reason_of,
    service_of,
    sync,
)
from provider_contract.listening import listening
from provider_contract.provider import Provider
from provider_contract.server import Answer, Service

SHORT = 0.5
"""Seconds that a call is given where the service is late."""
LATE = 20.0
"""Seconds that a late service takes."""
TOLD = 1.0
"""Seconds that a busy service asks to wait."""
FAR_TOO_LONG = 3600.0
"""Seconds that no call can wait."""
CAP = 50_000
"""Cap on the size of an answer, in bytes."""
FLOOD = 64 * 1024 * 1024
"""Bytes of an endless answer."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case."""

    text: str
    """In a few words; never empty."""
    kept: bool
    """True: it is the outcome that the contract asks for."""


def works(provider: Provider) -> str:
    """It finds what there is, also where the service cuts a character in two."""
    with service_of(provider) as service:
        tool = build(provider, service.url, timeout=PATIENCE)
        done = described(call(tool, provider.ask(service.url)), tool)
    with service_of(replace(provider, works=lambda request: cut_off(provider.works(request)))) as service:
        tool = build(provider, service.url, timeout=PATIENCE)
        result = call(tool, provider.ask(service.url))
    described(result, tool)
    result.model_dump_json()  # what is kept and recorded
    return done


def cut_off(answer: Answer) -> Answer:
    """The same answer, if it is JSON, with half an emoji at the end of everything that is written in words: so cut services
    that count as JavaScript does."""

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            return f"{value}\ud83d" if " " in value else value
        if isinstance(value, list):
            return [cut(item) for item in value]
        return {name: cut(item) for name, item in value.items()} if isinstance(value, dict) else value

    return replace(answer, body=cut(answer.body)) if isinstance(answer.body, dict | list) else answer


def timeout(provider: Provider) -> str:
    """A service that is late costs no more than the timeout."""
    late = replace(provider.busy, status=200, delay=LATE)
    with service_of(provider, late) as service:
        tool = build(provider, service.url, timeout=SHORT)
        started = time.monotonic()
        result = call(tool, provider.ask(service.url))
        seconds = time.monotonic() - started
    if seconds > LATE / 2:
        raise Broken(f"took {seconds:.1f} s with a timeout of {SHORT} s")
    return reason_of(result, ["timeout"])


def too_many(provider: Provider) -> str:
    """429: it waits as long as it is told and asks again; where that is too long it gives up at once."""
    with service_of(provider, provider.when_busy(TOLD), None) as service:
        tool = build(provider, service.url, timeout=PATIENCE, retries=1, backoff=0.01)
        done = described(call(tool, provider.ask(service.url)), tool)
        times = [request.at for request in counted(provider, service)]
    if len(times) != 2 or times[1] - times[0] < TOLD:
        raise Broken(f"{len(times)} calls, the second {times[-1] - times[0]:.2f} s after the first instead of {TOLD} s")
    with service_of(provider, provider.when_busy(FAR_TOO_LONG)) as service:
        tool = build(provider, service.url, timeout=PATIENCE, retries=2, backoff=0.01)
        why = reason_of(call(tool, provider.ask(service.url)), ["rate_limited"])
        calls = len(counted(provider, service))
    if calls != 1:
        raise Broken(f"{calls} calls although it was told to wait {FAR_TOO_LONG:g} s")
    return f"waits as told, then {done}; else {why}"


def server_error(provider: Provider) -> str:
    """5xx: it asks again; if that does not help, it says that the service is unavailable."""
    with service_of(provider, provider.broken, None) as service:
        tool = build(provider, service.url, timeout=PATIENCE, retries=1, backoff=0.01)
        done = described(call(tool, provider.ask(service.url)), tool)
    with service_of(provider, provider.broken) as service:
        tool = build(provider, service.url, timeout=PATIENCE, retries=2, backoff=0.01)
        why = reason_of(call(tool, provider.ask(service.url)), ["unavailable"])
        calls = len(counted(provider, service))
    if calls != 3:
        raise Broken(f"{calls} calls instead of 3")
    return f"2nd try: {done}; else {why}"


def malformed(provider: Provider) -> str:
    """An unreadable answer is a failure, not a crash and not an empty result."""
    return {failing(provider, answer, "malformed") for answer in provider.malformed}.pop()


def empty(provider: Provider) -> str:
    """Nothing found is told apart from everything else."""
    return failing(provider, provider.empty, "empty")


def huge(provider: Provider) -> str:
    """An endless answer is dropped while it arrives."""
    block = b" " * (64 * 1024)
    flood = Answer(block, repeat=FLOOD // len(block), content_type="application/json")
    with service_of(provider, flood) as service:
        cap: dict[str, Any] = {provider.size_option: CAP}
        tool = build(provider, service.url, timeout=PATIENCE, retries=0, **cap)
        why = reason_of(call(tool, provider.ask(service.url)), [provider.too_large])
        sent = service.sent
    if sent > FLOOD // 2:
        raise Broken(f"read on for {sent:,} bytes with a cap of {CAP:,}")
    return f"{why}, dropped"


def key_absent(provider: Provider) -> str:
    """Without its key a provider is not built, and the message names the variable; one that needs none works."""
    if provider.key_variable and provider.key_needed:
        try:
            build(provider, "http://127.0.0.1:9", key="")
        except registry.ToolConfigError as error:
            if provider.key_variable not in str(error) or "\n" in str(error):
                raise Broken(f"the message does not name {provider.key_variable} in one line: {error}") from None
            return f"not built: set {provider.key_variable}"
        raise Broken("is built without a key")
    with service_of(provider, key="") as service:
        tool = build(provider, service.url, key="", timeout=PATIENCE)
        done = described(call(tool, provider.ask(service.url)), tool)
    return f"optional; without: {done}" if provider.key_variable else "no key needed"


def secret(provider: Provider) -> str:
    """The key stands in no log, result, error or trace, whatever the service answers and even if it repeats the key."""
    key = key_of(provider)
    if not key:
        return "no key"
    ear, seen = Ear(), []
    with listening() as log:
        said = json.dumps({"error": f"no access with {key}", "detail": {"error": key}, "data": None})
        escaped = said.replace(key, "".join(f"\\u{ord(character):04x}" for character in key))
        repeats = [Answer(text, 400, content_type="application/json") for text in (said, escaped, _slashed(said))]
        for answer in (None, provider.busy, provider.broken, *repeats, *provider.malformed):
            with service_of(provider, answer) as service:
                tool = build(provider, service.url, timeout=PATIENCE, retries=0)
                seen += [repr(call(tool, provider.ask(service.url), ear=ear)), repr(tool), str(tool.model_dump())]
                if answer is None and key not in _wire(service):
                    raise Broken("the key does not reach the service")
        for url, right in (("", "another key"), ("http://127.0.0.1:9", None)):
            with service_of(provider, key=right) as service:
                tool = build(provider, url or service.url, timeout=PATIENCE, retries=0)
                result = call(tool, provider.ask(url or service.url), ear=ear)
                reason_of(result, ["unavailable"])
                seen += [repr(result), _trace(tool, provider.ask(url or service.url))]
    for place, text in {"log": log.getvalue(), "result or error": "".join(seen), "trace": "".join(ear.heard)}.items():
        if blot(text, key) != text:
            raise Broken(f"the key stands in a {place}")
    return "in no log, error, trace"


def _slashed(text: str) -> str:
    """JSON as PHP writes it."""
    return text.replace("/", "\\/")


def _wire(service: Service) -> str:
    return "".join(f"{request.headers} {request.query} {request.body!r}" for request in service.asked)


def _trace(tool: LensTool, arguments: Any) -> str:
    """The traceback of a failure inside the tool, causes included."""
    checked: Any = tool._checked  # type: ignore[attr-defined]
    try:
        asyncio.run(checked(**arguments))
    except ToolFailure as failure:
        return "".join(traceback.format_exception(failure))
    raise Broken("a wrong key is no failure")


CASES: dict[str, Callable[[Provider], str]] = {
    "sync": works,
    "async": works,
    "timeout": timeout,
    "429": too_many,
    "5xx": server_error,
    "malformed": malformed,
    "empty": empty,
    "huge body": huge,
    "key absent": key_absent,
    "key kept secret": secret,
}
"""The columns of the table."""
WAYS = {"sync": [True], "async": [False]}
"""Cases that are run one way; all others are run from synchronous and from asynchronous code, and must end alike."""


def run(provider: Provider, case: str) -> Outcome:
    """One cell of the table."""
    try:
        said = [_run(CASES[case], provider, from_sync) for from_sync in WAYS.get(case, [True, False])]
        if len(set(said)) > 1:
            raise Broken(f"{said[0]} from synchronous code, {said[1]} from asynchronous code")
        return Outcome(said[0], True)
    except Broken as broken:
        return Outcome(f"BROKEN: {broken}", False)
    except Exception as error:  # a provider that crashes has a cell, too
        return Outcome(f"BROKEN: {named_line(error)}", False)


def _run(case: Callable[[Provider], str], provider: Provider, from_sync: bool) -> str:
    way = sync.set(from_sync)
    try:
        return case(provider)
    finally:
        sync.reset(way)


def table(providers: Sequence[Provider], workers: int = 4) -> list[tuple[Provider, dict[str, Outcome]]]:
    """Every case of every provider, several at a time."""
    with ThreadPoolExecutor(workers) as pool:
        cells = [(provider, case, pool.submit(run, provider, case)) for provider in providers for case in CASES]
        found: dict[tuple[str, str], dict[str, Outcome]] = {}
        for provider, case, future in cells:
            found.setdefault((provider.kind, provider.name), {})[case] = future.result()
    return [(provider, found[provider.kind, provider.name]) for provider in providers]
