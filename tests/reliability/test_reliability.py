"""A sample of every scenario; `make reliability` runs them at length."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases import needs_postgres
from tests.reliability.counting import Count, Databases, Files, Scenario, Servers
from tests.reliability.suites import SUITES

SAMPLED = [scenario for scenarios in SUITES.values() for scenario in scenarios if scenario.sample]
KINDS = [
    pytest.param(
        kind, scenario, marks=needs_postgres if kind == "PostgreSQL" else (), id=f"{kind}: {scenario.name}"
    )
    for kind in ("SQLite", "PostgreSQL")
    for scenario in SAMPLED
    if scenario.only in (None, kind)
]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with closing(Servers()) as made:
        yield made


@pytest.mark.parametrize(("kind", "scenario"), KINDS)
def test_nothing_goes_wrong(request: pytest.FixtureRequest, tmp_path: Path, kind: str, scenario: Scenario) -> None:
    databases: Databases = request.getfixturevalue("servers") if kind == "PostgreSQL" else Files(tmp_path)
    rounds = scenario.sample if kind == "SQLite" else (scenario.sample + 1) // 2
    total = sum(scenario.run(databases, rounds), Count())
    assert total.tries > 0
    assert total.wrong == 0, "\n".join(total.problems)
