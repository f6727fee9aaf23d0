"""Clients that others wrote, from npm: the official conformance suite and the inspector's command line."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lensgraph.graphs.program.mcp_server import serving

from .conformance_server import ConformanceServer
from .conftest import HERE, served
from .slow_backends import SETTINGS
from .test_given_picture import bare

PACKAGES = ["@modelcontextprotocol/conformance@0.2.0-alpha.12", "@modelcontextprotocol/inspector-cli@0.22.0"]
"""The latter is what `@modelcontextprotocol/inspector --cli` starts, in a version that runs on Node 20."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None or shutil.which("node") is None, reason="needs Node and npm"),
]

DO_NOT_APPLY = {
    "the server offers no completion of arguments": "completion-complete",
    "it says nothing in sound": "tools-call-audio",
    "it sends no log messages, which the current revision deprecates": "logging-set-level tools-call-with-logging",
    "it asks for no model of the client's, which the current revision deprecates": "tools-call-sampling",
    "a finished question does not change": "resources-subscribe resources-unsubscribe",
    "they want tools with forms of the suite's own, not those of a server": (
        "tools-call-elicitation elicitation-sep1034-defaults elicitation-sep1330-enums json-schema-2020-12 "
        "http-custom-header-server-validation input-required-result-basic-elicitation input-required-result-basic-sampling "
        "input-required-result-basic-list-roots input-required-result-request-state input-required-result-multi-round "
        "input-required-result-multiple-input-requests input-required-result-non-tool-request "
        "input-required-result-result-type input-required-result-tampered-state input-required-result-capability-check"
    ),
    "tasks are an extension, which the suite does not score": (
        "tasks-lifecycle tasks-capability-negotiation tasks-wire-fields tasks-request-state-removal tasks-mrtr-input "
        "tasks-request-headers tasks-dispatch-and-envelope tasks-required-task-error tasks-mrtr-composition"
    ),
    "pending in the suite: the SDK compares a header with the spaces around it": "http-header-validation",
}
"""Why, and the scenarios that fail for it."""
PASS = {
    "2026-07-28": """server-stateless tools-list tools-call-simple-text tools-call-image tools-call-embedded-resource
        tools-call-mixed-content tools-call-error tools-call-with-progress server-sse-multiple-streams resources-list
        resources-read-text resources-read-binary resources-templates-read sep-2164-resource-not-found prompts-list
        prompts-get-simple prompts-get-with-args prompts-get-embedded-resource prompts-get-with-image
        dns-rebinding-protection caching""",
    "2025-11-25": """server-initialize server-session-lifecycle ping tools-list tools-call-simple-text tools-call-image
        tools-call-embedded-resource tools-call-mixed-content tools-call-error tools-call-with-progress
        server-sse-multiple-streams resources-list resources-read-text resources-read-binary resources-templates-read
        prompts-list prompts-get-simple prompts-get-with-args prompts-get-embedded-resource prompts-get-with-image
        dns-rebinding-protection""",
}
"""Revision of the protocol -> the scenarios that pass."""
SAY_NOTHING = {
    "input-required-result-missing-input-response", "input-required-result-unsupported-methods",
    "input-required-result-ignore-extra-params", "input-required-result-validate-input", "tasks-status-notifications",
}  # fmt: skip
"""Scenarios that do not apply either, and do not fail where a tool of the suite's own is missing."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs."""
    folder = tmp_path_factory.mktemp("npm")
    command = [
        "npm",
        "install",
        "--prefix",
        str(folder),
        "--no-audit",
        "--no-fund",
        "--silent",
        "--prefer-offline",
        "--ignore-scripts",
        *PACKAGES,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    _without_glob(folder / "node_modules/@modelcontextprotocol/conformance/dist/index.js")
    return folder / "node_modules"


def _without_glob(script: Path) -> None:
    """Node 20 has no `globSync`; the suite imports it for a command that is not used here."""
    text = script.read_text()
    found = re.search(r"globSync as (\w+),", text)
    if found is not None:
        script.write_text(text.replace(found[0], "", 1) + f"\nfunction {found[1]}() {{ return []; }}\n")


async def output(*command: Any, folder: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    return (await process.communicate())[0].decode()


@pytest.mark.parametrize(("option", "revision"), [("--requirements", "2026-07-28"), ("--spec-version", "2025-11-25")])
async def test_the_scenarios_of_the_conformance_suite_pass_or_do_not_apply(
    option: str, revision: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "AskServer", ConformanceServer)
    async with served() as address:
        said = await output(installed / ".bin/conformance", "server", "--url", address, option, revision)
    results = re.findall(r"^[✓✗] ([\w-]+): \d+ passed, (\d+) failed", said, flags=re.MULTILINE)
    assert {name for name, failed in results if failed == "0"} - SAY_NOTHING == set(PASS[revision].split()), said
    known = {name for names in DO_NOT_APPLY.values() for name in names.split()}
    assert {name for name, failed in results if failed != "0"} <= known, said


async def inspected(installed: Path, target: list[str], method: str, *further: str) -> Any:
    """The JSON that the inspector prints, or its error."""
    folder = (
        installed / "@modelcontextprotocol/inspector-cli/build"
    )  # it looks for its version beside where it is started
    said = await output("node", "index.js", *target, "--method", method, *further, folder=folder)
    found = re.search(r"^\{\n.*^\}$", said, flags=re.MULTILINE | re.DOTALL)  # the server's log stands around it
    return said if found is None else json.loads(found[0])


ASK = ["tools/call", "--tool-name", "ask", "--tool-arg", "question=When?"]


async def test_the_inspector_asks_lists_and_reads_over_http(installed: Path, picture: Path) -> None:
    async with served(token="t0ken", pictures=str(picture.parent)) as address:

        async def inspect(*method: str, token: str = "t0ken") -> Any:
            return await inspected(installed, [address], *method, "--header", f"Authorization: Bearer {token}")

        (tool,) = (await inspect("tools/list"))["tools"]
        assert tool["annotations"]["openWorldHint"] and tool["outputSchema"]["properties"]["answer"]
        assert (await inspect(*ASK, "image=a.png"))["structuredContent"]["answer"] == "1987"
        listed = (await inspect("resources/list"))["resources"]
        assert [r["uri"].split("/")[2] for r in listed] == ["episodes", "pictures"]
        (episode,) = (await inspect("resources/read", "--uri", listed[0]["uri"]))["contents"]
        assert json.loads(episode["text"])["answer"] == "1987"
        given = ["--prompt-args", "question=When?", "image=a.png"]
        prompt = await inspect("prompts/get", "--prompt-name", "ask_about_picture", *given)
        assert "question='When?'" in prompt["messages"][0]["content"]["text"]
        assert "invalid_token" in await inspect("tools/list", token="wrong")


async def test_the_inspector_asks_over_stdio(installed: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    command = ["env", f"PYTHONPATH={os.environ['PYTHONPATH']}", sys.executable, "-m", "lensgraph", "mcp", *SETTINGS]
    answer = await inspected(installed, command, *ASK, f"image=data:image/png;base64,{bare(picture)}")
    assert answer["structuredContent"]["answer"] == "1987"
