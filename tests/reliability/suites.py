"""All scenarios, by suite."""

from tests.reliability import crash, damage, faults, leaks, race
from tests.reliability.counting import Scenario

SUITES: dict[str, list[Scenario]] = {
    "Crash": crash.SCENARIOS,
    "Race": race.SCENARIOS,
    "Fault": [*faults.SCENARIOS, *damage.SCENARIOS],
    "Leak": leaks.SCENARIOS,
}
