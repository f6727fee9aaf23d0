"""Every provider keeps to the contract, before a server on this machine that speaks its wire format.

What each server speaks was checked against the documents that its entry in `tests/checks/provider_contract/providers` names."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from check_commands import main
from provider_contract import cases, table
from provider_contract.provider import Provider, everyone
from provider_contract.server import Answer

from lensgraph.tools import registry
from lensgraph.tools.pages.base import PageReader
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import SearchResult, ToolError

pytestmark = pytest.mark.contract

PROVIDERS = {f"{provider.kind}-{provider.name}": provider for provider in everyone()}
BRAVE = PROVIDERS["text_search-brave"]


@pytest.mark.parametrize("case", cases.CASES)
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_keeps_to_the_contract(name: str, case: str) -> None:
    outcome = cases.run(PROVIDERS[name], case)
    assert outcome.kept, outcome.text
    assert outcome.text.strip()


@pytest.mark.parametrize("kind", list(registry.PROVIDERS))
def test_every_provider_on_the_network_has_its_entry(kind: registry.Kind) -> None:
    """A provider reaches others if it is a client of a service, or reads pages."""
    entered = {provider.name for provider in PROVIDERS.values() if provider.kind == kind}
    classes = {name: registry.load_provider(kind, name) for name in registry.PROVIDERS[kind]}
    assert entered == {name for name, found in classes.items() if issubclass(found, Remote | PageReader)}
    assert entered


DOWN = ToolError(reason="unavailable", message="down")
WORDS = {"title": "Kenya", "url": "https://example.org/kenya", "description": "d"}
FOUND = Answer({"type": "search", "web": {"results": [WORDS]}})


@pytest.mark.parametrize(
    ("case", "wrong", "said"),
    [
        ("sync", {"works": lambda _: Answer([])}, "malformed"),
        ("async", {"works": lambda _: Answer({"type": "search"})}, "empty"),
        ("timeout", {"busy": FOUND, "refuses": lambda *_: FOUND}, "a result instead of timeout"),
        ("429", {"busy_for": lambda _: replace(BRAVE.busy)}, "calls"),
        ("429", {"busy_for": lambda _: FOUND}, "1 calls"),
        ("5xx", {"broken": replace(BRAVE.broken, status=418)}, "bad_input"),
        ("malformed", {"malformed": (FOUND,)}, "a result instead of malformed"),
        ("empty", {"empty": FOUND}, "a result instead of empty"),
        ("huge body", {"size_option": "snippet_chars"}, "malformed"),
        ("key absent", {"key_variable": "SOME_OTHER_KEY"}, "SOME_OTHER_KEY"),
    ],
)
def test_a_case_fails_where_a_provider_does_not_keep_to_it(case: str, wrong: dict[str, Any], said: str) -> None:
    """The contract can be broken: a service that does not behave as the case supposes shows as BROKEN."""
    if case == "huge body":  # with its cap lifted, the provider reads the whole flood
        outcome = cases.run(replace(BRAVE, **wrong, fast={"max_body_bytes": 10**9}), case)
        assert not outcome.kept
        assert "read on for" in outcome.text
        return
    outcome = cases.run(replace(BRAVE, **wrong), case)
    assert not outcome.kept
    assert outcome.text.startswith("BROKEN: ")
    assert said in outcome.text


def test_a_provider_that_fails_in_another_way_from_synchronous_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case but the first two is run both ways."""
    monkeypatch.setattr(
        "lensgraph.tools.text.brave.BraveTextSearch._run",
        lambda self, query, **_: ("", SearchResult(kind="text", query=query, error=DOWN)),
    )
    assert cases.run(BRAVE, "async").kept
    for case in set(cases.CASES) - {"async", "5xx", "key kept secret"}:
        outcome = cases.run(BRAVE, case)
        assert outcome.kept == (case == "key absent"), (case, outcome.text)


def test_the_table_in_the_guide_is_the_one_that_is_printed(repository: Path) -> None:
    """A provider or a case that is new changes it; what the cells say is compared for one provider."""
    guide = (repository / "tools" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in guide.splitlines() if line.startswith("| ") and line.count(" | ") > 8]
    assert lines[0] == "| " + " | ".join(["kind", "provider", *cases.CASES]) + " |"
    rows = {tuple(cell.strip() for cell in line.strip("|").split("|"))[:2] for line in lines[2:]}
    assert rows == {(table.KINDS[provider.kind], provider.name) for provider in everyone()}
    assert table.as_markdown(cases.table([BRAVE])).splitlines()[2] in lines


def test_a_provider_with_a_key_has_it_in_its_entry() -> None:
    """Else the table would say that it needs none."""
    for provider in PROVIDERS.values():
        found = registry.load_provider(provider.kind, provider.name)
        assert provider.key_variable == getattr(found, "key_variable", ""), provider.name
        if provider.key_variable:
            assert provider.key_needed is not found.key_optional


def test_a_key_that_shows_anywhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case about keys sees one in a log line, in an error and in what a tracer is told."""
    from lensgraph.tools import remote

    monkeypatch.setattr(remote._SealedURL, "__str__", lambda self: remote.httpx.URL.__str__(self))
    outcome = cases.run(PROVIDERS["text_search-serpapi"], "key kept secret")
    assert outcome.text == "BROKEN: the key stands in a log"
    monkeypatch.undo()
    monkeypatch.setattr(remote.Remote, "_meaning", lambda self, *_: ("unavailable", f"not with {self.key}"))
    monkeypatch.setattr(remote.Remote, "without_key", lambda self, text: text)
    outcome = cases.run(PROVIDERS["text_search-brave"], "key kept secret")
    assert not outcome.kept
    assert "the key stands in a result or error" in outcome.text


def test_the_command_prints_a_table_without_a_blank_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "--json", "--only", "searxng"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["provider"] for row in rows] == ["searxng"]
    assert list(rows[0]["cases"]) == list(cases.CASES)
    assert all(cell["kept"] and cell["what"].strip() for cell in rows[0]["cases"].values())


def rows(kept: bool) -> list[tuple[Provider, dict[str, cases.Outcome]]]:
    return [(BRAVE, {case: cases.Outcome(f"did | {case}", kept) for case in cases.CASES})]


def test_the_table_in_its_three_forms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cases, "table", lambda chosen: rows(kept=False))
    assert main(["providers"]) == 1  # a broken cell is an exit status
    shown = capsys.readouterr().out
    assert all(case.split()[0] in shown for case in cases.CASES)
    assert "brave" in shown
    markdown = table.as_markdown(rows(kept=True)).splitlines()
    assert len({line.count(" | ") for line in (markdown[0], markdown[2])}) == 1
    assert "did / 429" in markdown[2]


def test_an_unknown_provider_is_an_error_that_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "--only", "goggle"]) == 2
    assert "known are" in capsys.readouterr().err
