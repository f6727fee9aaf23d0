"""Attributes for the spans of OpenTelemetry's own LangChain instrumentation, where an application has turned it on.

Invariant: nothing is imported and nothing is written to a span that is not of the named operation, such as one of the
application's own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

PRICE = "lensgraph.price"
"""Attribute: US dollars. The conventions know tokens and no money."""


def note(operation: str, attributes: Mapping[str, str | int | float]) -> None:
    """Add attributes to the current span if it is of this operation (`gen_ai.operation.name`)."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return
    span = trace.get_current_span()
    if (getattr(span, "attributes", None) or {}).get("gen_ai.operation.name") == operation:
        span.set_attributes(attributes)
