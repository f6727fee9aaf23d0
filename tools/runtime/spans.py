"""OpenTelemetry's own instrumentation of LangChain, where an application has turned it on. Nothing is imported for it.

Invariant: nothing is written to a span that is not of the named operation, such as one of the application's own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import BaseRunManager

PRICE = "lensgraph.price"
"""Attribute: US dollars. The conventions know tokens and no money."""
HANDLER = "opentelemetry.instrumentation.genai.langchain.callback_handler"
"""Module of the handler that the instrumentation adds to every callback manager without one."""
IGNORED = ("agent", "chain", "chat_model", "custom_event", "llm", "retriever", "retry")
"""Kinds of events that a handler of LangChain may ignore."""


def note(operation: str, attributes: Mapping[str, str | int | float]) -> None:
    """Add attributes to the current span if it is of this operation (`gen_ai.operation.name`)."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return
    span = trace.get_current_span()
    if (getattr(span, "attributes", None) or {}).get("gen_ai.operation.name") == operation:
        span.set_attributes(attributes)


def price(operation: str, dollars: float, run: BaseRunManager | None) -> None:
    """Write the price of a call, known as it ends, into its span and into the metadata of its run."""
    note(operation, {PRICE: dollars})
    if run is None:
        return
    run.metadata["price"] = dollars
    for handler in run.handlers:  # a tracer made a copy as the run began
        kept = getattr(handler, "run_map", {}).get(str(run.run_id))
        extra = getattr(kept, "extra", None)
        if isinstance(extra, dict):
            extra.setdefault("metadata", {})["price"] = dollars


def unseen() -> list[Any] | None:
    """Callbacks with which a run is kept from the instrumentation: a handler of its class that ignores everything."""
    module = sys.modules.get(HANDLER)
    return None if module is None else [_deaf(module.OpenTelemetryLangChainCallbackHandler)]


@functools.cache
def _deaf(handler: type[Any]) -> Any:
    return type("Deaf", (handler,), {f"ignore_{kind}": True for kind in IGNORED})(None)
