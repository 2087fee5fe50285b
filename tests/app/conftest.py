"""The command run inside this process, on a database of its own."""

import shutil
import sqlite3

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from typer.testing import CliRunner

from learngate.app.cli import app
from learngate.stores import Decision, ProposalDraft, Turn, open_memory
from tests.app.support import RULE


@pytest.fixture
def path(tmp_path):
    return tmp_path / "learngate.db"


@pytest.fixture
def memory(request, path):
    """The memory that the command opens, too."""
    if "known" in request.fixturenames:
        request.getfixturevalue("known")
    with open_memory(f"sqlite:///{path}") as opened:
        yield opened


@pytest.fixture
def run(path, monkeypatch):
    """Run a command on `path`; its result has `.exit_code`, `.stdout` and `.stderr`, and is never a traceback."""
    monkeypatch.setenv("LEARNGATE_DB", str(path))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*args, stdin=None):
        result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def told(run):
    """Run a command that must succeed, and return what it printed."""

    def told(*args, stdin=None):
        result = run(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    return told


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A database with learnings 1 (active) and 2 (retired), proposal 4 that waits, and things of ana's."""
    path = tmp_path_factory.mktemp("template") / "learngate.db"
    with open_memory(f"sqlite:///{path}") as memory:
        learnings = memory.learnings
        first = learnings.propose(ProposalDraft("ETFs", RULE), namespace="default", proposer="model")
        learnings.decide(first.id, Decision.approve(), reviewer="ana")
        bonds = ProposalDraft("Bonds", "Compare bonds on duration first.")
        learnings.retire(learnings.add(bonds, namespace="default", actor="ana").id, actor="ana")
        fees = ProposalDraft("Fees", "Compare the fees of funds over ten years.", rationale="Fees add up.")
        learnings.propose(fees, namespace="default", proposer="model")
        memory.users.remember("ana", "The user likes short answers.")
        said = (HumanMessage("hello", id="t1"), AIMessage("Hello, ana."))
        memory.sessions.append(Turn("mine", said, id="t1", user_id="ana", reflection="pending"))
    return path


@pytest.fixture
def known(template, path):
    """Put a copy of the template where the command looks for its database."""
    shutil.copy(template, path)


@pytest.fixture
def stocked(known, memory):
    """The copy of the template, open."""
    return memory


@pytest.fixture
def rows(path):
    """Return every row of a learngate table, to see that nothing changed."""

    def rows():
        with sqlite3.connect(path) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            kept = [name for (name,) in tables if name not in {"embeddings"} and "_fts" not in name]
            found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in kept}
        connection.close()
        return {name: lines for name, lines in found.items() if lines}

    return rows


@pytest.fixture
def typing(monkeypatch):
    """Sit at a terminal, and type these lines; an exception among them is a key such as Ctrl-C."""
    from learngate.app import cards, learnings, review, sessions

    def typing(*lines):
        waiting = list(lines)

        def ask_line(prompt, **_):
            line = waiting.pop(0) if waiting else EOFError()
            if isinstance(line, BaseException):
                raise line
            return line

        for module in (cards, learnings, sessions):
            monkeypatch.setattr(module, "ask_line", ask_line)
        for module in (learnings, review, sessions):
            monkeypatch.setattr(module, "on_terminal", lambda: True)
        return waiting

    return typing
