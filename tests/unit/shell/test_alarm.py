"""How late a node is: for what it knew of, and for nothing else."""

from peertap.shell.alarm import Alarm


def test_a_deadline_that_was_known_is_noticed_as_late_as_it_was_due() -> None:
    alarm = Alarm()
    alarm.set(10.0, 5.0)
    alarm.set(10.0, 9.0)  # something else happened
    assert alarm.rang(10.25) == 0.25


def test_a_machine_that_was_busy_beyond_a_deadline_was_late() -> None:
    alarm = Alarm()
    alarm.set(10.0, 5.0)
    alarm.set(10.0, 13.0)
    assert alarm.rang(13.0) == 3.0


def test_a_deadline_that_was_over_when_it_was_set_is_no_lateness() -> None:
    """A neighbour that named its addresses long before its keys made all our round trips pass for lateness."""
    alarm = Alarm()
    alarm.set(10_000.0, 5.0)
    alarm.set(6.0, 3600.0)
    assert alarm.rang(3600.0) == 0.0


def test_each_deadline_is_measured_from_its_own_time() -> None:
    alarm = Alarm()
    alarm.set(10.0, 5.0)
    assert alarm.rang(12.0) == 2.0
    alarm.set(11.0, 12.0)
    assert alarm.rang(12.5) == 0.5


def test_a_deadline_that_is_put_off_and_met_in_time_is_not_late() -> None:
    alarm = Alarm()
    alarm.set(10.0, 5.0)
    alarm.set(20.0, 9.0)
    assert alarm.rang(20.0) == 0.0
