"""What can go wrong in the lab, named for whose fault it is."""


class LabError(Exception):
    """The machine or the lab itself failed: a command, a missing program, a leak."""


class ScenarioFailed(Exception):
    """What the scenario claims does not hold."""


class TimeLimitExceeded(ScenarioFailed):
    """The scenario ran longer than its hard bound."""


def require(condition: bool, claim: str) -> None:
    """Fails the scenario where `condition` does not hold; `claim` says what was seen."""
    if not condition:
        raise ScenarioFailed(claim)
