"""Many questions at once while a share of all requests fails; `lensgraph load` prints what these tests assert."""

import json
from collections import Counter

import pytest

from lensgraph.agent.limits import StopReason
from lensgraph.graphs.bench import load_bench, load_report
from lensgraph.graphs.bench.load_server import Faults
from lensgraph.graphs.program.main import main


def test_every_fault_is_met_in_its_share_and_always_the_same_way() -> None:
    faults = Faults()
    fates = Counter(faults.of(number) for number in range(20_000))
    shares = {name: count / 20_000 for name, count in fates.items()}
    assert shares["error"] == pytest.approx(0.05, abs=0.006)
    assert shares["timeout"] == pytest.approx(0.05, abs=0.006)
    assert shares["garbage"] == pytest.approx(0.01, abs=0.003)
    assert [faults.of(n) for n in range(99)] == [Faults().of(n) for n in range(99)]


def test_without_faults_every_question_is_answered() -> None:
    done, met = load_bench.run(3, 2, Faults(errors=0, timeouts=0, garbage=0), timeout=60)
    assert [one.endings for one in done] == [Counter({"answered": 3})] * 2
    assert met == {"policy fine": 18, "image fine": 6, "text fine": 6}


def test_a_bad_day_ends_every_question_with_a_reason() -> None:
    done, met = load_bench.run(12, 2, Faults(errors=0.4, timeouts=0.1, garbage=0.3), timeout=1.5)
    endings = sum((one.endings for one in done), Counter())
    assert sum(endings.values()) == 24
    assert set(endings) <= {"answered", "policy_failed"}
    assert endings["policy_failed"] > 0
    errors = sum((one.policy_errors for one in done), Counter())
    assert errors.total() == endings["policy_failed"]
    assert set(errors) <= {"timeout", "garbage", "429", "500", "502", "503"}
    assert {"policy error", "policy timeout", "policy garbage"} <= set(met)


def test_what_may_pass_costs_time_and_no_answer() -> None:
    """A tenth of the requests fails, each with another number: a turn that is tried three times comes."""
    done, met = load_bench.run(10, 1, Faults(errors=0.1, timeouts=0.0, garbage=0.02, seed=10), timeout=20)
    assert met["policy error"] + met["policy garbage"] > 0
    assert done[0].endings == Counter({"answered": 10})


def test_an_ending_without_a_name_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = load_report.Round(endings=Counter({"hangs": 1, "answered": 1}), latencies=[1.0, 2.0], seconds=1.0)
    monkeypatch.setattr(load_bench, "run", lambda *args, **given: ([one, one], Counter()))
    assert load_bench.main(2, 2, Faults(), timeout=1, as_json=False) == 1
    assert "2 questions without a typed ending" in capsys.readouterr().err


@pytest.mark.parametrize(("last", "flat"), [(4.0, False), (2.4, True), (1.0, True)])
def test_memory_that_grows_with_the_questions_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], last: float, flat: bool
) -> None:
    """Between the second traced round and the last lie 200 questions here: 1 MB may come with them."""
    done = [  # one round timed, three traced
        load_report.Round(
            Counter({"answered": 200}), latencies=[1.0, 3.0], seconds=50.0, python_mb=mb, rss_mb=100 + 10 * number
        )
        for number, mb in enumerate((0.0, 1.0, 1.5, last))
    ]
    monkeypatch.setattr(load_bench, "run", lambda *args, **given: (done, Counter({"policy fine": 24})))
    monkeypatch.setattr(load_bench, "rss_mb", lambda: 90.0)
    assert load_bench.main(200, 4, Faults(), timeout=1, as_json=True) == (0 if flat else 1)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (err == "") == flat
    assert found["memory_flat"] is flat
    assert found["grown_mb_per_1000_questions"] == pytest.approx((last - 1.5) * 5)
    assert found["memory_mb"] == {"start": 90.0, "middle": 110.0, "end": 130.0}
    assert (found["questions_per_second"], found["median_seconds"], found["questions"]) == (4.0, 2.0, 800)
    assert found["endings_share"] == {"answered": 1.0}


def test_a_few_questions_say_nothing_about_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    done = [
        load_report.Round(Counter({"answered": 9}), latencies=[1.0], seconds=1.0, python_mb=mb)
        for mb in (0.0, 1.0, 2.0, 3.0)
    ]
    found = load_report.figures(9, done, Counter(), Faults(), 1.0, 0.0)
    assert (found["grown_mb"], found["grown_mb_per_1000_questions"], found["memory_flat"]) == (1.0, None, None)


def test_the_table_says_what_people_ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done = [load_report.Round(Counter({"answered": 3, "policy_failed": 1}), latencies=[1.0, 3.0], seconds=2.0)] * 3
    monkeypatch.setattr(load_bench, "run", lambda *args, **given: (done, Counter({"policy fine": 24})))
    assert load_bench.main(4, 3, Faults(), timeout=7, as_json=False) == 0
    shown = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if not line.startswith("failed")
    )
    assert shown["questions"] == "12: 3 rounds of 4 at once"
    assert shown["requests"] == "24, of which 5% get an error, 5% no answer within 7 s, 1% garbage"
    assert shown["endings"] == "answered 75.0%, policy_failed 25.0%"
    assert shown["throughput"] == "2.0 questions a second (1 timed rounds)"
    assert shown["growth"] == "too few questions to say (from 4 rounds of 100 on)"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("questions", "rounds", "flat"), [(200, 2, None), (100, 4, True)])
def test_hundreds_of_questions_at_once(
    capsys: pytest.CaptureFixture[str], questions: int, rounds: int, flat: bool | None
) -> None:
    """5 % errors, 5 % timeouts, 1 % garbage: every question ends with an answer or a typed reason, none hangs, and memory
    is after the last round what it was after the second. Two rounds say nothing about memory."""
    argv = ["load", "--questions", str(questions), "--rounds", str(rounds), "--timeout", "10", "--json"]
    assert main(argv) == 0
    figures = json.loads(capsys.readouterr().out)
    assert sum(figures["endings"].values()) == questions * rounds
    assert set(figures["endings"]) <= {str(reason) for reason in StopReason}
    assert figures["endings_share"]["answered"] > 0.9
    assert set(figures["tool_errors"]) <= {"unavailable", "timeout", "malformed", "rate_limited"}
    assert figures["tool_errors"]["timeout"] > 0
    assert figures["memory_flat"] is flat
