"""The image searches and the further locators pass LangChain's own suites for tools."""

from typing import Any

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from provider_contract.provider import everyone
from provider_contract.providers.image_google_vision import PICTURE

from lensgraph.tools.image.fvqa_cache import FvqaCacheImageSearch
from lensgraph.tools.image.google_vision import GoogleVisionImageSearch
from lensgraph.tools.image.searchapi_lens import SearchApiLensImageSearch
from lensgraph.tools.image.serpapi_lens import SerpApiLensImageSearch
from lensgraph.tools.locate.owlv2 import Owlv2Locator
from lensgraph.tools.locate.policy_boxes import PolicyBoxLocator
from lensgraph.tools.locate.served_policy import ServedPolicyLocator
from lensgraph.tools.registry import PROVIDERS

pytestmark = pytest.mark.contract

IMAGE = {"image": "https://example.org/kenya.png"}
EXPRESSION = {**IMAGE, "expression": "the flag"}
ONLINE = {
    "image_search": {"google_vision", "serpapi_lens", "searchapi_lens"},
    "locate": {"served_policy"},
}


class TestGoogleVisionUnit(ToolsUnitTests):
    tool_constructor = GoogleVisionImageSearch
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = IMAGE

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"GOOGLE_VISION_API_KEY": "key"}, {}, {"api_key": "key"}


class TestSerpApiLensUnit(ToolsUnitTests):
    tool_constructor = SerpApiLensImageSearch
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = IMAGE

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"SERPAPI_API_KEY": "key"}, {}, {"api_key": "key"}


class TestSearchApiLensUnit(ToolsUnitTests):
    tool_constructor = SearchApiLensImageSearch
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = IMAGE

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"SEARCHAPI_API_KEY": "key"}, {}, {"api_key": "key"}


class TestFvqaCacheUnit(ToolsUnitTests):
    tool_constructor = FvqaCacheImageSearch
    tool_constructor_params = {"folder": "fvqa"}
    tool_invoke_params_example = IMAGE


class TestOwlv2Unit(ToolsUnitTests):
    tool_constructor = Owlv2Locator
    tool_invoke_params_example = EXPRESSION


class TestPolicyBoxUnit(ToolsUnitTests):
    tool_constructor = PolicyBoxLocator
    tool_invoke_params_example = EXPRESSION


class TestPolicyBox(ToolsIntegrationTests):
    tool_constructor = PolicyBoxLocator
    tool_invoke_params_example = {"image": PICTURE, "expression": '{"bbox_2d": [0, 0, 56, 56], "label": "the flag"}'}


class TestServedPolicyUnit(ToolsUnitTests):
    tool_constructor = ServedPolicyLocator
    tool_constructor_params = {"base_url": "http://127.0.0.1:8000/v1", "model": "qwen"}
    tool_invoke_params_example = EXPRESSION


def test_every_provider_on_the_network_is_in_the_contract() -> None:
    for kind, names in ONLINE.items():
        assert names == {provider.name for provider in everyone() if provider.kind == kind}
    offline = set(PROVIDERS["image_search"]) - ONLINE["image_search"]
    assert offline == {"local", "fvqa_cache"}
