"""Many questions at once while a share of all requests fails; `lensgraph load` prints what these tests assert."""

import json
from collections import Counter

import pytest

from agent import load
from agent.__main__ import main
from agent.limits import StopReason
from agent.load_server import Faults


def test_every_fault_is_met_in_its_share_and_always_the_same_way() -> None:
    faults = Faults()
    fates = Counter(faults.of(number) for number in range(20_000))
    shares = {name: count / 20_000 for name, count in fates.items()}
    assert shares["error"] == pytest.approx(0.05, abs=0.006)
    assert shares["timeout"] == pytest.approx(0.05, abs=0.006)
    assert shares["garbage"] == pytest.approx(0.01, abs=0.003)
    assert [faults.of(n) for n in range(99)] == [Faults().of(n) for n in range(99)]


def test_without_faults_every_question_is_answered() -> None:
    done, met = load.run(3, 2, Faults(errors=0, timeouts=0, garbage=0), timeout=60)
    assert [one.endings for one in done] == [Counter({"answered": 3})] * 2
    assert met == {"policy fine": 18, "image fine": 6, "text fine": 6}


def test_a_bad_day_ends_every_question_with_a_reason() -> None:
    done, met = load.run(12, 2, Faults(errors=0.3, timeouts=0.1, garbage=0.2), timeout=3)
    endings = sum((one.endings for one in done), Counter())
    assert sum(endings.values()) == 24
    assert set(endings) <= {"answered", "policy_failed"}
    assert endings["policy_failed"] > 0
    assert {"policy error", "policy timeout", "policy garbage"} <= set(met)


def test_an_ending_without_a_name_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = load.Round(endings=Counter({"hangs": 1, "answered": 1}), latencies=[1.0, 2.0], seconds=1.0)
    monkeypatch.setattr(load, "run", lambda *args, **given: ([one, one], Counter()))
    assert load.main(2, 2, Faults(), timeout=1, as_json=False) == 1
    assert "2 questions without a typed ending" in capsys.readouterr().out
    for last, code in ((4.0, 1), (2.5, 0)):
        memory = (0.0, 1.0, 1.5, last)  # one round timed, three traced
        done = [load.Round(Counter({"answered": 2}), latencies=[1.0], seconds=1.0, python_mb=mb) for mb in memory]
        monkeypatch.setattr(load, "run", lambda *args, rounds=done, **given: (rounds, Counter()))
        assert load.main(2, 4, Faults(), timeout=1, as_json=False) == code
        assert ("FAILED: memory grows" in capsys.readouterr().out) == bool(code)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_questions_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """5 % errors, 5 % timeouts, 1 % garbage: every question ends with an answer or a typed reason, none hangs, and memory
    is after the last round what it was after the second."""
    assert main(["load", "--questions", "200", "--rounds", "4", "--timeout", "15", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert sum(figures["endings"].values()) == 800
    assert set(figures["endings"]) <= {str(reason) for reason in StopReason}
    assert figures["endings"]["answered"] > 200
    assert set(figures["tool_errors"]) <= {"unavailable", "timeout", "malformed", "rate_limited"}
    assert figures["tool_errors"]["timeout"] > 0
    assert figures["grown_mb"] <= load.GROWTH_MB
