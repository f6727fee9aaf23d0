"""Tests that need something beside Python packages run in CI: a PostgreSQL server, and agentdojo's strings."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def job(repository: Path) -> dict[str, Any]:
    jobs = yaml.safe_load((repository / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]
    return dict(jobs["test"])


def test_the_database_of_the_tests_is_the_one_that_ci_starts(job: dict[str, Any]) -> None:
    service = job["services"]["postgres"]
    address = re.fullmatch(
        r"postgresql://postgres:(\w+)@127\.0\.0\.1:(\d+)/postgres", job["env"]["LENSGRAPH_TEST_POSTGRES"]
    )
    assert address, "the tests skip what this variable does not name"
    assert service["env"]["POSTGRES_PASSWORD"] == address[1]
    assert service["ports"] == [f"{address[2]}:5432"]
    assert "pg_isready" in service["options"]


def test_agentdojo_is_installed_before_the_tests_run(job: dict[str, Any], repository: Path) -> None:
    runs = [step.get("run", "") for step in job["steps"]]
    installs = [number for number, run in enumerate(runs) if "agentdojo" in run]
    tests = [number for number, run in enumerate(runs) if run.startswith("pytest")]
    assert installs and tests and installs[0] < tests[0]
    # One version everywhere: its strings are counted in the guide of the tools.
    places = [".ci/run", ".github/workflows/ci.yml", "tests/graphs/test_injection_strings.py", "tools/README.md"]
    versions = {
        place: set(re.findall(r"agentdojo==([\d.]+)", (repository / place).read_text("utf-8"))) for place in places
    }
    assert len(set.union(*versions.values())) == 1 and all(versions.values()), versions


def test_ci_run_starts_a_database_of_its_own(repository: Path) -> None:
    script = (repository / ".ci" / "run").read_text("utf-8")
    assert "export LENSGRAPH_TEST_POSTGRES=" in script
    assert script.index("start_postgres ||") < script.index('step "tests"')
