"""`learngate reflect`: look back at turns whose reflection is pending or failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from learngate.app.opening import choose_model, db_option, model_words, opened, suggested
from learngate.app.options import Db, Json, Limit, Model
from learngate.app.screen import busy, counted, flat, note, say, say_json
from learngate.app.status import DONE, REFUSED, STOPPED

if TYPE_CHECKING:
    from learngate.graph import ReflectionReport


def reflect(ctx: typer.Context, limit: Limit = 100, model: Model = None, json: Json = False, db: Db = None) -> None:
    """Look back at turns for what is worth keeping.

    These are the turns whose reflection is pending (it runs in the background, or was stopped) or failed. What
    they teach waits for a reviewer: `learngate review`.

    Exit status 1 says that some failed; they are taken again the next time, five times at the most.
    """
    with opened(db, there=True) as memory:
        chosen, no_key = choose_model(model)
        waiting = len(memory.sessions.unreflected(limit=limit))
        if not json:
            note(f"{model_words(chosen, no_key=no_key)} · {counted(waiting, 'turn')} to reflect on")
        reports: list[ReflectionReport] = []
        stopped = False
        with busy(f"reflecting on {counted(waiting, 'turn')} …") as news:
            from learngate.app.stopping import Stoppable, Stopped
            from learngate.graph import areflect_pending

            def on_turn(report: ReflectionReport) -> None:
                reports.append(report)
                news(f"reflected on {len(reports)} of {counted(waiting, 'turn')} …")

            running = Stoppable()
            try:
                running.run(areflect_pending(memory, model=chosen, limit=limit, on_turn=on_turn))
            except Stopped:
                stopped = True
            finally:
                running.close()
    if json:
        say_json(reports)
    else:
        _tell(reports, waiting, stopped=stopped, db=db_option(ctx))
    failed = any(report.status == "failed" for report in reports)
    raise typer.Exit(STOPPED if stopped else REFUSED if failed else DONE)


def _tell(reports: list[ReflectionReport], waiting: int, *, stopped: bool, db: str) -> None:
    for report in reports:
        if report.proposal_id is not None:
            decide = suggested("review", str(report.proposal_id), db=db)
            say(f"{report.session_id} · proposal {report.proposal_id} · {decide}")
        elif report.status == "failed":
            say(f"{report.session_id} · failed · {flat(report.error or '', 200)}")
    failed = sum(report.status == "failed" for report in reports)
    done = f"reflected on {counted(len(reports) - failed, 'turn')}" + (f" · {failed} failed" if failed else "")
    say(f"{done} · {waiting - len(reports)} left" if stopped else done)
