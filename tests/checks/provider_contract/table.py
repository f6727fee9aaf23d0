"""The contract as a table: for a terminal, as JSON, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from provider_contract.cases import CASES, Outcome
from provider_contract.provider import Provider

Rows = Sequence[tuple[Provider, dict[str, Outcome]]]
KINDS = {"text_search": "text", "image_search": "image", "locate": "locate", "read_page": "page"}


def show(rows: Rows, console: Console) -> None:
    """A table in the terminal; broken cells are red."""
    table = Table(show_lines=True)
    for head in ("kind", "provider", *CASES):
        table.add_column(head, overflow="fold")
    for provider, cells in rows:
        shown = [f"[red]{cells[case].text}[/red]" if not cells[case].kept else cells[case].text for case in CASES]
        table.add_row(KINDS[provider.kind], provider.name, *shown)
    console.print(table)


def as_json(rows: Rows) -> str:
    """One record a provider."""
    return json.dumps(
        [
            {
                "kind": provider.kind,
                "provider": provider.name,
                "checked_against": provider.documents,
                "cases": {case: {"kept": cells[case].kept, "what": cells[case].text} for case in CASES},
            }
            for provider, cells in rows
        ],
        indent=2,
        ensure_ascii=False,
    )


def as_markdown(rows: Rows) -> str:
    """A table for a README."""
    heads = ["kind", "provider", *CASES]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for provider, cells in rows:
        words = [KINDS[provider.kind], provider.name, *(cells[case].text.replace("|", "/") for case in CASES)]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)
