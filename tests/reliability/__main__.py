"""Run the reliability scenarios at length, and write what came of them to docs/reliability.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.reliability.counting import Count, Databases, Files, Scenario, Servers
from tests.reliability.suites import SUITES

OUTPUT = Path("docs/reliability.md")
console = Console()


@dataclass
class Result:
    """What came of one scenario on one database."""

    suite: str
    scenario: Scenario
    database: str
    count: Count
    rounds: int
    note: str = ""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (default: each one's own number)")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--only", metavar="WORD", default="", help="scenarios and suites with this word in them")
    parser.add_argument("--seconds", type=float, default=300, help="the longest that one scenario may take")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"where the table goes (default: {OUTPUT})")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    results: list[Result] = []
    with (
        ExitStack() as stack,
        Progress(
            TextColumn("{task.description:<100.100}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as progress,
    ):
        for databases in kinds(given.database, stack):
            for suite, scenario in chosen(given.only, databases):
                rounds = given.rounds or scenario.long
                task = progress.add_task(f"{databases.name:<10} · {scenario.name}", total=rounds)
                result = Result(suite, scenario, databases.name, Count(), 0)
                results.append(result)
                deadline = monotonic() + given.seconds
                for count in scenario.run(databases, rounds):
                    result.count += count
                    result.rounds += 1
                    progress.update(task, completed=result.rounds)
                    if monotonic() > deadline:
                        result.note = f"stopped after {given.seconds:g} s"
                        break
                progress.update(task, total=result.rounds)
                write(results, given.output)
                for problem in result.count.problems[:3]:
                    progress.console.print(f"  [red]{problem[:500]}", highlight=False, markup=True)
    write(results, given.output)
    wrong = sum(result.count.wrong for result in results)
    console.print(f"{given.output}: {sum(r.count.tries for r in results)} tries, {wrong} went wrong")
    return int(wrong > 0)


def kinds(which: str, stack: ExitStack) -> list[Databases]:
    """Return the kinds of database that there are to run on."""
    found: list[Databases] = []
    if which in {"sqlite", "both"}:
        found.append(Files(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
    if which in {"postgresql", "both"}:
        found.append(stack.enter_context(closing(Servers())))
    return found


def chosen(word: str, databases: Databases) -> list[tuple[str, Scenario]]:
    return [
        (suite, scenario)
        for suite, scenarios in SUITES.items()
        for scenario in scenarios
        if scenario.only in (None, databases.name) and word.lower() in f"{suite} {scenario.name}".lower()
    ]


def write(results: list[Result], path: Path) -> None:
    """Write what is known so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT.format(table="\n".join(lines(results)), **totals(results)))


def totals(results: list[Result]) -> dict[str, str]:
    parts = []
    for name in dict.fromkeys(result.database for result in results):
        mine = [result for result in results if result.database == name]
        kills = sum(result.count.tries for result in mine if result.suite == "Crash")
        wrong = sum(result.count.wrong for result in mine)
        tries = sum(result.count.tries for result in mine)
        parts.append(f"- **{name}**: {kills:,} kills among {tries:,} tries; went wrong: {wrong}")
    return {"totals": "\n".join(parts)}


def lines(results: list[Result]) -> list[str]:
    table = [
        "| | scenario | database | tries | lost | doubled | half | leaked | silent |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in sorted(results, key=lambda one: [*SUITES].index(one.suite)):
        count, note = result.count, f" ({result.note})" if result.note else ""
        numbers = [count.tries, count.lost, count.doubled, count.half, count.leaked, count.silent]
        cells = [result.suite, result.scenario.name + note, result.database, *(f"{number:,}" for number in numbers)]
        table.append("| " + " | ".join(cells) + " |")
    return table


TEXT = """# What was tried to break it

Made by `make reliability`, which runs it again. A sample of every scenario runs in `make test`;
the scenarios are in [tests/reliability](../tests/reliability).

{totals}

{table}

- **lost**: acknowledged, and not there. **doubled**: took effect more than once. **half**: there in part, or
  changed. **leaked**: reached somebody else. **silent**: went wrong, and the caller was told nothing, or not
  what happened.
- A **crash** is a process that kills itself with SIGKILL at one named write: before or after a statement, before
  or after a commit, at each write of the checkpointer, under all three durabilities. Another process carries on
  as a host would, and rows and prompts are compared with those of a run that nothing stopped. A try is a kill.
- A **race** is real processes behind a barrier; a try is one round of all of them.
- A **fault** is made for real: a full disk, a process that holds the lock, a connection that the server ends,
  a changed bit. A try is one call.
- A **leak** would be a secret of one user in a prompt, a stream, a listing or an error of another. A try is one
  round of all users.
"""

if __name__ == "__main__":
    sys.exit(main())
