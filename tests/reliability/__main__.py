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


Key = tuple[str, str, str]
"""Suite, scenario and database of a line of the table."""


def write(results: list[Result], path: Path) -> None:
    """Write what is known so far; lines of earlier runs stay where this one has none of its own."""
    table = {key: cells for key, cells in known(path).items() if key in places()}
    for result in results:
        count, note = result.count, f" ({result.note})" if result.note else ""
        numbers = [count.tries, count.lost, count.doubled, count.half, count.leaked, count.silent]
        cells = [result.suite, result.scenario.name + note, result.database, *(f"{number:,}" for number in numbers)]
        table[result.suite, result.scenario.name, result.database] = cells
    ordered = [table[key] for key in places() if key in table]
    rows = [f"| {' | '.join(cells)} |" for cells in [HEAD, RULE, *ordered]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT.format(table="\n".join(rows), totals="\n".join(totals(ordered))))


def places() -> list[Key]:
    """Return the lines that there may be, in their order."""
    kinds = (Files.name, Servers.name)
    return [(suite, one.name, kind) for suite, scenarios in SUITES.items() for one in scenarios for kind in kinds]


def known(path: Path) -> dict[Key, list[str]]:
    """Return the lines that a file has already."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {(row[0], row[1].split(" (stopped")[0], row[2]): row for row in rows if len(row) == len(HEAD)}


def totals(rows: list[list[str]]) -> list[str]:
    said = []
    for name in dict.fromkeys(row[2] for row in rows):
        mine = [(row[0], *(int(cell.replace(",", "")) for cell in row[3:])) for row in rows if row[2] == name]
        kills = sum(tries for suite, tries, *_ in mine if suite == "Crash")
        wrong = sum(sum(numbers) for _, _, *numbers in mine)
        tries = sum(tries for _, tries, *_ in mine)
        said.append(f"- **{name}**: {kills:,} kills among {tries:,} tries; went wrong: {wrong:,}")
    return said


HEAD = ["", "scenario", "database", "tries", "lost", "doubled", "half", "leaked", "silent"]
RULE = ["---"] * 3 + ["--:"] * 6

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
