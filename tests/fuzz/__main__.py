"""Fuzzes the stores and the gate: `python -m tests.fuzz --examples 100000 --database sqlite`.

Prints how often each call was made and what came of it; what should not have come of one is printed as it was
called, and then the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
from time import monotonic

from tests.conftest import pytest_configure
from tests.fuzz.answers import fuzz_answers, fuzz_reading
from tests.fuzz.calls import CALLS, Fuzzed, Tally, fuzz, fuzzed_memory

SHARE = 0.05
"""Of the examples, the share that answers the gate's question in a graph; twice that is only read."""


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    asked = parser.parse_args()
    pytest_configure()
    began, answers = monotonic(), int(asked.examples * SHARE)
    each = -(-(asked.examples - 3 * answers) // len(CALLS))
    fuzzed = Fuzzed(asked.database)
    tallies = []
    for store, name in CALLS:
        tallies.append(fuzz(fuzzed, store, name, each))
        say(f"{store}.{name}", tallies[-1])
    fuzzed.close()
    with fuzzed_memory(asked.database) as memory:
        tallies.append(fuzz_answers(memory, answers))
    say("Command(resume=…)", tallies[-1])
    tallies.append(fuzz_reading(2 * answers))
    say("Review.model_validate", tallies[-1])
    tries, found = sum(one.tries for one in tallies), sum(len(one.found) for one in tallies)
    sys.stdout.write(f"{asked.database}: {tries:,} examples in {monotonic() - began:.0f} s, {found} found\n")
    return 1 if found else 0


def say(what: str, tally: Tally) -> None:
    """Print a line for a call, and what was found, a few of each kind."""
    refused = ", ".join(f"{kind} {count:,}" for kind, count in tally.refused.most_common())
    sys.stdout.write(f"{what:28} {tally.tries:7,} · done {tally.done:,} · {refused} · found {len(tally.found)}\n")
    kinds: dict[str, list[str]] = {}
    for one in tally.found:
        kinds.setdefault(one.rsplit("): ", 1)[-1][:60], []).append(one)
    for several in kinds.values():
        sys.stdout.write(f"    {len(several):,} × {several[0]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
