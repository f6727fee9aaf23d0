"""Calls of other people's code that must not be traced, because their arguments hold bytes of pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from langchain_core.runnables.config import var_child_runnable_config

from lensgraph.tools.runtime import spans


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """No run that begins in here is told to the callbacks and tracers around it. The graph's own config stays at hand."""
    from langchain_core.tracers.context import tracing_v2_callback_var  # a tenth of a second, which no import pays
    from langsmith.run_helpers import tracing_context

    config = var_child_runnable_config.set({**(var_child_runnable_config.get() or {}), "callbacks": spans.unseen()})
    tracer = tracing_v2_callback_var.set(None)
    try:
        with tracing_context(enabled=False):
            yield
    finally:
        tracing_v2_callback_var.reset(tracer)
        var_child_runnable_config.reset(config)
