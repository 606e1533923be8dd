"""The lab's command line, its scenarios, and what they read from a README."""

import pytest

from netns.cli import main, parser
from netns.emulator import Impairment
from netns.errors import ScenarioFailed
from netns.scenario import NAMES, load
from netns.scenarios.new_user import join_line, readme_command
from netns.waiting import wait_for

README = """
# PeerTap
```console
$ sudo peertap init --vlan home     # once
$ sudo peertap up
```
Then `peertap status`.
"""


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_loads_under_its_name_with_a_summary_and_bounds(name: str) -> None:
    scenario = load(name)
    assert scenario.summary
    assert "\n" not in scenario.summary
    assert 0 < scenario.short_bound_s <= scenario.bound_s


def test_list_names_each_scenario_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(NAMES)


def test_run_needs_a_name_or_all_and_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert main(["run", "pair", "--all"]) == 2
    assert "NAME" in capsys.readouterr().err


def test_an_unknown_scenario_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as raised:
        parser().parse_args(["run", "nonsense"])
    assert raised.value.code == 2


def test_impairments_are_written_as_the_emulator_reads_them() -> None:
    text = Impairment(delay_ms=5, loss_percent=0.5, rate_mbit=10).settings()
    assert text == "delay=5,jitter=0,loss=0.5,duplicate=0,reorder=0,gap=1,rate=10,queue=50"


def test_the_readme_yields_its_first_init_and_up() -> None:
    assert readme_command(README, r"init --vlan \S+") == "peertap init --vlan home"
    assert readme_command(README, "up") == "peertap up"


def test_a_readme_without_init_fails_the_scenario() -> None:
    with pytest.raises(ScenarioFailed, match="peertap init"):
        readme_command("```\npeertap up\n```", "init")


def test_the_line_for_the_other_machine_is_found_in_what_init_prints() -> None:
    printed = "Wrote /etc/peertap.\nOn the other machine type:\n\n    sudo peertap init --join 'ptjoin1-abc'\n"
    assert join_line(printed) == "peertap init --join 'ptjoin1-abc'"


def test_waiting_in_vain_says_what_was_last_seen() -> None:
    with pytest.raises(ScenarioFailed, match=r"the door opens: not within 0 s; last seen: \[\]"):
        wait_for(list, 0, "the door opens")


def test_waiting_returns_what_was_seen() -> None:
    answers = iter([0, 0, 7])
    assert wait_for(lambda: next(answers), 5, "seven", interval_s=0) == 7
