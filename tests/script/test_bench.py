"""What script/bench concludes from its measurements, without measuring."""

import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import quiet  # noqa: E402
import report  # noqa: E402
from rows import Comparison, Ratio, Row, in_turn  # noqa: E402

STEADY = [100.0, 104.0, 98.0, 101.0, 103.0]
FAST = Ratio("nginx", 1.5, 1.4, 1.6)
SLOW = Ratio("nginx", 0.7, 0.6, 0.8)


def times(**seconds):
    """A moment of a machine where nothing has happened but what is given."""
    return quiet.Times(**(dict.fromkeys(quiet.Times._fields, 0.0) | seconds))


def others(**seconds):
    return quiet.others_share(times(), times(**seconds))


def row(ratio=FAST, goal=(">=", 1.25), doubt=""):
    return Row("hot", "requests/s", {"tarn": 3.0, "nginx": 2.0}, ratio, goal, doubt=doubt)


def test_a_quiet_machine_leaves_no_doubt():
    assert quiet.doubt(0.0, 0.0) == ""
    assert quiet.doubt(quiet.MOST_OF_OTHERS, quiet.MOST_OF_OTHERS, "nginx", STEADY) == ""


@pytest.mark.parametrize("before, during", [(0.2, 0.0), (0.0, 0.2)])
def test_processor_time_of_others_is_a_reason_to_doubt(before, during):
    said = quiet.doubt(before, during, "nginx", STEADY)
    assert said == f"others used the processors (20% {'before' if before else 'during'} it)"


def test_rounds_of_the_reference_server_that_differ_are_a_reason_to_doubt():
    said = quiet.doubt(0.0, 0.0, "nginx", [100.0, 60.0, 110.0, 50.0, 105.0])
    assert said == "nginx's rounds differ by 1.75 x"


def test_one_odd_round_of_five_is_no_reason_to_doubt():
    assert quiet.doubt(0.0, 0.0, "nginx", STEADY[:4] + [20.0]) == ""


def test_rounds_without_a_value_are_a_reason_to_doubt():
    assert quiet.doubt(0.0, 0.0, "nginx", [0.0, 0.0]) != ""


def test_each_reason_is_said():
    assert quiet.doubt(0.3, 0.4, "curl", [1.0, 9.0]) == (
        "others used the processors (30% before it, 40% during it); curl's rounds differ by 2.33 x")


def test_the_servers_own_time_is_not_that_of_others():
    assert others(all=4, user=2, system=1, own_user=2, own_system=1) == 0
    assert others(all=4, user=2, system=1, own_user=1, own_system=1) == 0.25


def test_a_process_that_is_counted_more_exactly_than_the_machine_hides_nobody():
    # More system time than the machine has must not make up for others' user time.
    assert others(all=4, user=1, system=1, own_system=2) == 0.25


def test_time_that_the_hypervisor_took_is_that_of_others():
    assert others(all=4, stolen=1) == 0.25


def test_the_machines_times_are_read_from_proc_stat():
    ticks = quiet.os.sysconf("SC_CLK_TCK")
    fields = " ".join(str(ticks * seconds) for seconds in (1, 2, 3, 4, 5, 6, 7, 8, 0, 0))
    assert quiet.machine_times(f"cpu  {fields}\ncpu0 1 1 1\n") == (36, 3, 3, 8)


def test_a_watch_takes_the_benchs_own_work_for_no_disturbance(monkeypatch):
    monkeypatch.setattr(quiet, "SAMPLE_SECONDS", 0)
    moments = iter([times(all=1), times(all=3), times(all=9, user=4, own_user=4)])
    monkeypatch.setattr(quiet.Watch, "_now", lambda self: next(moments))
    assert quiet.Watch(lambda: (0.0, 0.0)).doubt("nginx", STEADY) == ""


def test_a_goal_is_met_missed_or_undecided():
    assert row().met == "yes"
    assert row(SLOW).met == "no"
    assert row(doubt="busy").met == "undecided"
    assert row(SLOW, doubt="busy").met == "undecided"
    assert row(goal=None, doubt="busy").met == ""


def test_the_table_says_why_a_goal_is_undecided():
    lines = report.table([row(), row(SLOW), row(doubt="others used 20%"), row(goal=None)])
    cells = [line.split(" | ") for line in lines.splitlines()]
    assert cells[0] == ["| figure", "unit", "tarn", "nginx", "ratio", "goal", "met |"]
    assert cells[2][4:] == ["1.5 x nginx (1.4 to 1.6)", ">= 1.25", "yes |"]
    assert [cell[-1] for cell in cells[3:]] == ["**no** |", "undecided: others used 20% |", " |"]


def test_what_is_printed_about_the_run_fits_into_a_document():
    run = report.Run("script/bench --quick", "2 cores of a long name " * 5, "Linux")
    lines = run.paragraph([row(), row(doubt="busy")]).splitlines()
    assert max(map(len, lines)) <= 120
    assert "1 of the goals is undecided" in " ".join(lines)


def test_the_ratio_is_the_median_of_pairs():
    found = [{"tarn": 2.0, "nginx": 1.0}, {"tarn": 30.0, "nginx": 10.0}, {"tarn": 4, "nginx": 4}]
    compared = Comparison(found, "nginx")
    assert compared.values == {"tarn": 4, "nginx": 4}
    assert compared.ratio.value == 2
    assert compared.rounds == [1.0, 10.0, 4]


def test_rounds_alternate_who_goes_first():
    calls = []
    in_turn(3, {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")})
    assert "".join(calls) == "abbaab"


def test_the_help_says_when_a_figure_is_undecided():
    shown = subprocess.run([sys.executable, BENCH / "run.py", "--help"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    assert "A figure is `undecided`" in shown
    assert f"more than {quiet.MOST_OF_OTHERS:.0%} of all processors' time" in shown
    assert f"more than {quiet.MOST_SPREAD} times" in shown
