"""A server of ours that also has the tools, resources and prompts which the official conformance suite asks for by name.

They stand on our server's own class, so that its transport, progress, errors, resources and prompts are what is tested."""

import base64
import itertools
from typing import Annotated, Any

from mcp.server.mcpserver import Context as Call
from mcp.server.mcpserver import Resolve, Sample
from mcp_types import (
    CallToolResult,
    CreateMessageResult,
    EmbeddedResource,
    ImageContent,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

from lensgraph.agent import testing
from lensgraph.graphs import search_agent
from lensgraph.graphs.program.mcp_server import watched_run
from lensgraph.graphs.program.mcp_server.ask_server import AskServer

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TURNS = ["<text_search>lights</text_search>", "<answer>1987</answer>"]


def picture() -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(PIXEL).decode(), mime_type="image/png")


def embedded(uri: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, text=text, mime_type="text/plain"))


def text(said: str) -> TextContent:
    return TextContent(type="text", text=said)


def _sample() -> Sample:
    return Sample([SamplingMessage(role="user", content=text("Say something."))], max_tokens=8)


class ConformanceServer(AskServer):
    """Ours, with the suite's fixtures."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tools()
        self._resources()
        self._prompts()

    def _tools(self) -> None:
        @self.tool()
        def test_simple_text() -> str:
            """Text."""
            return "This is a simple text response for testing."

        @self.tool()
        def test_image_content() -> list[ImageContent]:
            """A picture."""
            return [picture()]

        @self.tool()
        def test_embedded_resource() -> list[EmbeddedResource]:
            """A resource within the result."""
            return [embedded("test://embedded-resource", "This is an embedded resource content.")]

        @self.tool()
        def test_multiple_content_types() -> CallToolResult:
            """Three kinds."""
            content = [text("Multiple content types test:"), picture(), embedded("test://mixed-content-resource", "{}")]
            return CallToolResult(content=list(content))

        @self.tool()
        async def test_error_handling(call: Call) -> CallToolResult:
            """A question without a picture's file: our own error."""
            found = await self.call_tool("ask", {"question": "What is it?", "image": "none.png"}, call)
            assert isinstance(found, CallToolResult)
            return found

        @self.tool()
        async def test_tool_with_progress(call: Call) -> str:
            """A question of the graph, with the progress that `ask` reports."""

            begun = itertools.count(1)

            async def tell(doing: str) -> None:
                await call.report_progress(next(begun), message=doing)

            given = {"question": "When?", "images": [PIXEL]}
            state = await watched_run.run(search_agent.graph, given, None, testing.context(TURNS), tell)
            return str(state["answer"])

        @self.tool()
        def test_missing_capability(said: Annotated[CreateMessageResult, Resolve(_sample)]) -> str:
            """Needs a model of the client's."""
            return str(said.content)

    def _resources(self) -> None:
        @self.resource("test://static-text", mime_type="text/plain")
        def static_text() -> str:
            return "This is the content of the static text resource."

        @self.resource("test://static-binary", mime_type="image/png")
        def static_binary() -> bytes:
            return PIXEL

        @self.resource("test://template/{id}/data", mime_type="application/json")
        def template(id: str) -> str:
            return f'{{"id": "{id}", "templateTest": true, "data": "Data for ID: {id}"}}'

    def _prompts(self) -> None:
        @self.prompt()
        def test_simple_prompt() -> str:
            """One message."""
            return "This is a simple prompt for testing."

        @self.prompt()
        def test_prompt_with_arguments(
            arg1: Annotated[str, Field(description="First")], arg2: Annotated[str, Field(description="Second")]
        ) -> str:
            """With arguments."""
            return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

        @self.prompt()
        def test_prompt_with_embedded_resource(
            resourceUri: Annotated[str, Field(description="Its address")],
        ) -> list[Any]:
            """With a resource."""
            return [embedded(resourceUri, "Embedded resource content for testing."), text("Please process it.")]

        @self.prompt()
        def test_prompt_with_image() -> list[Any]:
            """With a picture."""
            return [picture(), text("Please analyze the image above.")]
