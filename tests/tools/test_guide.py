"""`tools/README.md` tells the truth: its settings build, its tables are the registry, its keys and prices the providers'."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lensgraph.agent import config, context
from lensgraph.tools import registry
from lensgraph.tools.base import LensTool
from lensgraph.tools.remote import Remote
from lensgraph.tools.text import searxng

SETTINGS: dict[str, registry.Kind] = {
    "tools.text_search.use": "text_search",
    "tools.text_search.read.reader": "read_page",
    "tools.image_search.use": "image_search",
    "tools.locate.use": "locate",
}
"""The heads of the tables."""
OTHER_VARIABLES = {searxng.URL_VARIABLE, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
"""Environment variables that are read besides the keys that providers declare."""


@pytest.fixture(scope="module")
def guide(repository: Path) -> str:
    return (repository / "tools" / "README.md").read_text(encoding="utf-8")


def tables(guide: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Setting -> provider -> what the table says of its key and otherwise."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for setting, body in re.findall(r"^\| `([\w.]+)` \| key \| notes \|\n\|[-|]+\n((?:\|.*\n)+)", guide, flags=re.M):
        rows = [[cell.strip() for cell in line.strip("|\n ").split(" |")] for line in body.splitlines()]
        found[setting] = {row[0].strip("`"): (row[1], row[2] if len(row) > 2 else "") for row in rows}
    return found


def remote(provider: Any) -> type[Remote] | None:
    return provider if isinstance(provider, type) and issubclass(provider, Remote) else None


def test_the_tables_are_the_registry(guide: str) -> None:
    shown = tables(guide)
    assert set(shown) == set(SETTINGS)
    for setting, kind in SETTINGS.items():
        assert set(shown[setting]) == {*registry.PROVIDERS[kind], "package.module:Class"}
        for name, (key, _) in shown[setting].items():
            if name in registry.PROVIDERS[kind]:
                provider = remote(registry.load_provider(kind, name))
                variable = provider.key_variable if provider else ""
                optional = ", optional" if provider and provider.key_optional else ""
                assert key == (f"`{variable}`{optional}" if variable else "none"), name


def test_the_fields_and_variables_in_the_tables_are_the_providers(guide: str) -> None:
    for setting, kind in SETTINGS.items():
        for name, (_, notes) in tables(guide)[setting].items():
            if name not in registry.PROVIDERS[kind]:
                continue
            provider: type[LensTool] = registry.load_provider(kind, name)
            for quoted in re.findall(r"`([^`]+)`", notes):
                word = quoted.split(":")[0]
                if word.isupper():
                    assert word in OTHER_VARIABLES, (name, word)
                elif not quoted.startswith(("lensgraph ", "pip install ")):
                    assert word in provider.model_fields, (name, word)


def test_every_variable_is_told_by_the_guide_and_by_the_program(guide: str) -> None:
    """`lensgraph config` prints the same descriptions."""
    printed = config.render(config.Config())
    for kind, names in registry.PROVIDERS.items():
        for name in names:
            provider = remote(registry.load_provider(kind, name))
            if provider and provider.key_variable:
                assert provider.key_variable in guide
                assert provider.key_variable in printed, f"`lensgraph config` does not name {provider.key_variable}"
    assert all(variable in guide for variable in OTHER_VARIABLES)


def variants(block: str) -> list[dict[str, Any]]:
    """The settings of a YAML block: as it stands, and with each alternative that it shows as a comment."""
    plain = yaml.safe_load(block)
    commented = "".join(
        match[1] + "\n" for match in re.finditer(r"^  # (\w+:.*|  \S.*|\s*$)$", block, flags=re.MULTILINE)
    )
    parts = re.split(r"^(?=\w)", commented, flags=re.MULTILINE)
    return [plain, *({"tools": yaml.safe_load(part)} for part in parts if part.strip())]


def write_modules(guide: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the Python blocks that begin with the name of a file where they can be imported."""
    for name, code in re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL):
        (folder / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)


async def test_the_retriever_of_the_guide_answers(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_modules(guide, tmp_path, monkeypatch)
    tool = registry.build("text_search", {"use": "my_search:papers"})
    result = await tool.search("when was the light automated")  # type: ignore[attr-defined]
    assert [(hit.title, hit.url) for hit in result.hits] == [("Light", "notes/light.md")]
    assert "1987" in result.hits[0].snippet


@pytest.mark.filterwarnings("ignore")
def test_every_yaml_block_builds(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, names in registry.PROVIDERS.items():
        for name in names:
            provider = remote(registry.load_provider(kind, name))
            if provider and provider.key_variable:
                monkeypatch.setenv(provider.key_variable, "a key")
    for variable in OTHER_VARIABLES:
        monkeypatch.setenv(variable, "http://127.0.0.1:8080" if variable.endswith("URL") else "a key")
    monkeypatch.setenv("LENSGRAPH_HOME", str(tmp_path))
    write_modules(guide, tmp_path, monkeypatch)
    monkeypatch.setattr(context, "_ready", lambda tool: tool)  # no checkpoint is loaded, no index made
    given = [
        tree
        for block in re.findall(r"^```yaml\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL)
        for tree in variants(block)
    ]
    # Settings in running text, such as `locate: {use: policy_boxes, coordinates: thousandths}`.
    inline = re.findall(r"`((?:text_search|image_search|locate): \{[^`]*\})`", guide)
    given += [{"tools": yaml.safe_load(text)} for text in inline]
    used: set[tuple[str, str]] = set()
    for number, tree in enumerate(given):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(tree))
        backends = context.Backends(context.Context(config=config.load_config(path, environ={})))
        for setting, spec in tree["tools"].items():
            if setting in registry.PROVIDERS:
                assert isinstance(backends.build_tool(setting), registry.BASES[setting]), tree
                used.add((setting, spec["use"]))
    assert len(given) >= 8
    assert used >= {
        ("text_search", "brave"), ("image_search", "google_vision"), ("image_search", "serpapi_lens"),
        ("image_search", "searchapi_lens"), ("image_search", "fvqa_cache"), ("locate", "grounding_dino"),
        ("locate", "served_policy"), ("locate", "policy_boxes"),
    }  # fmt: skip


def test_a_block_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    """The commented lines are read, too."""
    block = (
        "tools:\n  locate: {use: local}\n  # locate: {use: owlv2, modle: x}   # why\n  # locate:\n  #   use: owlv2\n"
    )
    found = variants(block)
    assert [tree["tools"]["locate"]["use"] for tree in found] == ["local", "owlv2", "owlv2"]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(found[1]))
    with pytest.raises(config.ConfigError, match="modle"):
        context.Backends(context.Context(config=config.load_config(path, environ={}))).build_tool("locate")


def test_the_prices_are_the_providers(guide: str) -> None:
    said = re.search(r"^- Prices per call \(.*?\): (.*?) dollars\.$", guide, flags=re.MULTILINE | re.DOTALL)
    assert said
    prices = dict(part.split() for part in said[1].split(", "))
    known = {"Vision": "google_vision", "SerpApi": "serpapi_lens", "SearchApi": "searchapi_lens"}
    assert set(prices) == set(known)
    for name, price in prices.items():
        provider: type[LensTool] = registry.load_provider("image_search", known[name])
        assert provider.model_fields["price_per_call"].default == float(price), name
