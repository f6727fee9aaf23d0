"""Every tool on the network passes LangChain's integration suite before the server that speaks its wire format, and every
provider of the registry has both suites.

The servers are those of the contract (`tests/checks`); what each was checked against stands in its entry.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from provider_contract import harness
from provider_contract.provider import Provider, everyone

from lensgraph.tools import registry

pytestmark = pytest.mark.contract

ONLINE = {(provider.kind, provider.name): provider for provider in everyone()}


class _Before(ToolsIntegrationTests):
    """LangChain's suite for one provider, built from its key in the environment and its server's address."""

    provider: Provider
    url = ""

    @pytest.fixture
    def tool(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaseTool]:
        if self.provider.key_variable:
            monkeypatch.setenv(self.provider.key_variable, harness.key_of(self.provider))
        with harness.service_of(self.provider) as service:
            type(self).url = service.url
            yield self.tool_constructor(**self.tool_constructor_params)
            # The suite is content with a failure as text; one that never asked would pass it, too.
            assert [request for request in service.asked if self.provider.counts(request)]

    @property
    def tool_constructor(self) -> type[BaseTool]:
        found: type[BaseTool] = registry.load_provider(self.provider.kind, self.provider.name)
        return found

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {**self.provider.options(self.url), **self.provider.fast, "timeout": harness.PATIENCE}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return dict(self.provider.ask(self.url))

    def test_it_finds_something(self, tool: Any) -> None:
        assert harness.described(harness.call(tool, self.tool_invoke_params_example), tool)


def _title(provider: Provider) -> str:
    return "Test" + "".join(part.title() for part in (*provider.kind.split("_"), *provider.name.split("_")))


# One class a provider, so that a failing one is named.
globals().update({_title(one): type(_title(one), (_Before,), {"provider": one}) for one in ONLINE.values()})


def _tested(suite: type, folder: Path) -> set[str]:
    """The classes that a suite of LangChain's is written down for."""
    pattern = re.compile(rf"\({suite.__name__}\):\n(?:    .*\n)*?    tool_constructor = (\w+)")
    return {name for path in folder.rglob("test_*.py") for name in pattern.findall(path.read_text(encoding="utf-8"))}


def test_every_provider_passes_both_suites(repository: Path) -> None:
    units = _tested(ToolsUnitTests, repository / "tests" / "tools")
    calls = _tested(ToolsIntegrationTests, repository / "tests" / "tools")
    for kind, names in registry.PROVIDERS.items():
        for name, path in names.items():
            constructor = path.partition(":")[2]
            assert constructor in units, f"{kind} {name} has no unit suite"
            if (kind, name) in ONLINE:
                assert _title(ONLINE[kind, name]) in globals()
            else:
                assert constructor in calls, f"{kind} {name} has no integration suite"
