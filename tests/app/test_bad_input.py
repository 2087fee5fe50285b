"""Whatever cannot be done is one clear line, exit status 1 or 2, no traceback, and nothing half-written."""

import sqlite3

import pytest

from learngate.stores.migrations import MIGRATIONS
from tests.app.support import RULE, learngate

LONG = "x" * 100_000
MODEL = ("--model", "offline")

REFUSED = {
    "an unknown session": (("sessions", "show", "nope"), "have no 'nope'"),
    "an unknown session to delete": (("sessions", "delete", "nope", "--yes"), "have no 'nope'"),
    "somebody's session, by nobody": (("sessions", "show", "mine"), "have no 'mine'"),
    "somebody's session, by another": (
        ("sessions", "show", "mine", "--user", "ben"),
        "'ben' has no session 'mine'",
    ),
    "somebody's session to delete": (("sessions", "delete", "mine", "--yes"), "have no 'mine'"),
    "somebody's session to talk in": (
        ("chat", "--session", "mine", "--user", "ben", "-m", "hi", *MODEL),
        "session 'mine' is not ben's",
    ),
    "nobody in somebody's session": (("chat", "--session", "mine", "-m", "hi", *MODEL), "is not nobody's"),
    "an unknown proposal": (("review", "99"), "there is no proposal 99"),
    "an unknown proposal to decide": (("review", "99", "--approve"), "there is no proposal 99"),
    "a decided proposal": (("review", "1", "--reject", "no"), "was already decided: approve by ana"),
    "a copy of a learning": (("learnings", "add", "--title", "t", "--insight", RULE), "already says that"),
    "an unknown learning": (("learnings", "show", "99"), "there is no learning 99"),
    "the history of none": (("learnings", "history", "99"), "there is no learning 99"),
    "editing none": (("learnings", "edit", "99", "--title", "t"), "there is no learning 99"),
    "retiring none": (("learnings", "retire", "99"), "there is no learning 99"),
    "restoring none": (("learnings", "restore", "99"), "there is no learning 99"),
    "reverting none": (("learnings", "revert", "99", "1"), "there is no learning 99"),
    "an unknown revision": (("learnings", "revert", "1", "7"), "learning 1 has no revision 7"),
    "retiring twice": (("learnings", "retire", "2"), "is retired already"),
    "editing what is retired": (("learnings", "edit", "2", "--title", "t"), "restore it first"),
    "restoring what is active": (("learnings", "restore", "1"), "nothing to restore"),
    "an unknown memory": (("memories", "forget", "99", "--user", "ana"), "'ana' has no memory 99"),
    "another's memory": (("memories", "forget", "1", "--user", "ben"), "'ben' has no memory 1"),
}
UNUSABLE = {
    "an empty message": (("chat", "-m", "", *MODEL), "the message is empty"),
    "a blank message": (("chat", "-m", " \n\t ", *MODEL), "the message is empty"),
    "a message of 100 kB": (("chat", "-m", LONG, *MODEL), "100,000 bytes; at most 64,000"),
    "a message with NUL": (("chat", "-m", "a\x00b", *MODEL), "NUL"),
    "a message with a lone surrogate": (("chat", "-m", "a\udcffb", *MODEL), "lone surrogate"),
    "a user with a line break": (("chat", "-m", "hi", "--user", "a\nb", *MODEL), "--user 'a\\nb'"),
    "a user with a surrogate": (("chat", "-m", "hi", "--user", "\udcff", *MODEL), "--user holds a lone surrogate"),
    "an empty user": (("chat", "-m", "hi", "--user", "", *MODEL), "--user is empty"),
    "a session with spaces around": (("chat", "-m", "hi", "--session", " x", *MODEL), "surrounding spaces"),
    "a session that is too long": (("chat", "-m", "hi", "--session", LONG, *MODEL), "at most 200"),
    "a namespace with a hole": (("chat", "-m", "hi", "--namespace", "a//b", *MODEL), "empty or padded segment"),
    "a reviewer with NUL": (("chat", "-m", "hi", "--reviewer", "a\x00", *MODEL), "NUL"),
    "no terminal and no message": (("chat", *MODEL), "no message came"),
    "a package that is not installed": (
        ("chat", "-m", "hi", "--model", "openai:gpt-5.2"),
        "pip install langchain-openai",
    ),
    "a model without its key": (
        ("chat", "-m", "hi", "--model", "google_genai:gemini-3-flash-preview"),
        "set GOOGLE_API_KEY",
    ),
    "no model at all": (("chat", "-m", "hi", "--model", "nonsense"), "'nonsense' cannot be used"),
    "no such provider": (("chat", "-m", "hi", "--model", "nonsense:x"), "'nonsense:x'"),
    "a model with a surrogate": (("chat", "-m", "hi", "--model", "\udcff"), "cannot be used"),
    "a model that cannot reflect": (("reflect", "--model", "nonsense"), "'nonsense' cannot be used"),
    "two decisions": (("review", "4", "--approve", "--reject", "no"), "exclude each other"),
    "a decision on nothing": (("review", "--approve"), "needs the ID of a proposal"),
    "an edit without words": (("review", "4", "--edit"), "--edit needs the new words"),
    "words without an edit": (("review", "4", "--approve", "--title", "t"), "--title belongs to --edit"),
    "an edit to nothing": (("review", "4", "--edit", "--insight", ""), "the insight is empty"),
    "an edit to 100 kB": (("review", "4", "--edit", "--insight", LONG), "at most 4,000"),
    "a note of 100 kB": (("review", "4", "--reject", LONG), "the note has 100,000 bytes"),
    "a reviewer with a line break": (("review", "4", "--approve", "--reviewer", "a\nb"), "the reviewer 'a\\nb'"),
    "proposal nought": (("review", "0", "--approve"), "greater than or equal to 1"),
    "a proposal beyond 64 bits": (("review", str(2**63), "--approve"), "less than or equal to"),
    "a proposal that is no number": (("review", "first"), "integer"),
    "a learning without its insight": (("learnings", "add", "--title", "t"), "has both"),
    "a title that is too long": (("learnings", "add", "--title", "t" * 201, "--insight", "i"), "at most 200"),
    "an insight with a surrogate": (("learnings", "add", "--title", "t", "--insight", "\udcff"), "lone surrogate"),
    "a namespace with a surrogate": (
        ("learnings", "add", "--title", "t", "--insight", "i", "--namespace", "\udcff"),
        "the namespace holds a lone surrogate",
    ),
    "an edit of a learning without words": (("learnings", "edit", "1"), "give at least one"),
    "a learning beyond 64 bits": (("learnings", "show", str(2**63)), "less than or equal to"),
    "an empty query": (("learnings", "search", ""), "the query is empty"),
    "a query of 100 kB": (("learnings", "search", LONG), "100,000 bytes"),
    "an empty search of turns": (("sessions", "search", "", "--user", "ana"), "the query is empty"),
    "no user": (("memories", "list"), "--user"),
    "an empty memory": (("memories", "add", " ", "--user", "ana"), "the memory is empty"),
    "a memory of 100 kB": (("memories", "add", LONG, "--user", "ana"), "at most 2,000"),
    "a memory with NUL": (("memories", "add", "a\x00b", "--user", "ana"), "NUL"),
    "a memory of a surrogate": (("memories", "add", "x", "--user", "\udcff"), "lone surrogate"),
    "a list of a surrogate's": (("sessions", "list", "--user", "\udcff"), "lone surrogate"),
    "a session named by a surrogate": (("sessions", "show", "\udcff"), "lone surrogate"),
    "a deletion with nobody to ask": (("sessions", "delete", "mine", "--user", "ana"), "add --yes"),
    "JSON of no database": (("learnings", "list", "--json", "--db", "nonsense://x"), "nonsense"),
    "no database URL": (("learnings", "list", "--db", "://"), "not a database URL"),
    "no such command": (("learn",), "No such command"),
    "no such option": (("chat", "--loud"), "No such option"),
}


@pytest.mark.parametrize("args", REFUSED)
def test_what_is_refused_says_so_with_status_1_and_changes_nothing(args, run, known, rows):
    command, says = REFUSED[args]
    _fails(run, rows, command, says, status=1)


@pytest.mark.parametrize("args", UNUSABLE)
def test_what_cannot_be_used_says_so_with_status_2_and_changes_nothing(args, run, known, rows):
    command, says = UNUSABLE[args]
    _fails(run, rows, command, says, status=2)


def _fails(run, rows, command, says, *, status):
    before = rows()
    result = run(*command)
    assert result.exit_code == status, result.output
    assert says in result.stderr
    assert "Error: " in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert result.stdout == ""
    assert rows() == before


def test_a_message_that_is_refused_in_a_pipe_is_named_and_the_others_are_answered(run, memory):
    result = run("chat", "--session", "s", *MODEL, stdin=b"hello\n\n   \nbad \xff byte\nnul \x00 byte\nbye\n")
    assert result.exit_code == 2
    assert result.stderr.count("Error: ") == 2
    assert "lone surrogate at character 4" in result.stderr
    assert "NUL" in result.stderr
    assert [turn.question for turn in memory.sessions.window("s")] == ["hello", "bye"]


@pytest.mark.parametrize("stdin", [b"nul \x00 byte", b"bad \xff byte", b"", b"x" * 100_000])
@pytest.mark.parametrize(
    "command",
    [("memories", "add", "-", "--user", "ana"), ("learnings", "add", "--title", "t", "--insight", "-")],
    ids=["memory", "insight"],
)
def test_a_text_from_stdin_is_checked_like_any_other(command, stdin, run, known, rows):
    before = rows()
    result = run(*command, stdin=stdin)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: the ")
    assert rows() == before


# -- as processes: what an in-process run cannot show ------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["chat", "-m", b"bad \xff byte", "--model", "offline"],
        ["memories", "add", b"\xff", "--user", "ana"],
        ["learnings", "show", b"\xff"],
    ],
    ids=["message", "memory", "id"],
)
def test_bytes_that_are_no_text_on_the_command_line_are_refused(command, tmp_path):
    done = learngate(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert "Error: " in done.stderr


def test_bytes_that_are_no_text_on_stdin_are_refused(tmp_path):
    done = learngate("chat", "--model", "offline", "--session", "s", cwd=tmp_path, stdin=b"bad \xff byte\nhello\n")
    assert done.returncode == 2
    assert "lone surrogate at character 4" in done.stderr
    assert "You asked: “hello”" in done.stdout


def test_a_database_of_bytes_that_are_no_text_is_only_a_name(tmp_path):
    done = learngate("memories", "add", "x", "--user", "ana", "--db", b"odd\xff.db", cwd=tmp_path)
    assert done.returncode == 0
    assert [*tmp_path.glob("odd*.db")]


# -- databases that are none -------------------------------------------------------------------------------

DATABASES = [
    (("learnings", "list"), "is a folder: name a file in it"),
    (("chat", "-m", "hi", *MODEL), "is a folder: name a file in it"),
    (("doctor",), "is a folder"),
]


@pytest.mark.parametrize(("command", "says"), DATABASES, ids=["list", "chat", "doctor"])
def test_a_folder_is_no_database(command, says, run, tmp_path):
    result = run(*command, "--db", tmp_path)
    assert result.exit_code == 1
    assert says in result.output


@pytest.mark.parametrize("command", [("learnings", "list"), ("chat", "-m", "hi", *MODEL), ("doctor",)])
def test_a_file_that_is_no_database_stays_as_it_is(command, run, tmp_path):
    other = tmp_path / "letter.txt"
    other.write_text("Dear reader, this is no database at all.\n" * 50)
    before = other.read_bytes()
    result = run(*command, "--db", other)
    assert result.exit_code == 1
    assert "is not an SQLite database" in result.output
    assert other.read_bytes() == before


@pytest.mark.parametrize("command", [("learnings", "list"), ("chat", "-m", "hi", *MODEL), ("doctor",)])
def test_a_newer_schema_asks_for_a_newer_learngate(command, run, memory, path):
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO learngate_schema VALUES (?, '2030-01-01')", (len(MIGRATIONS) + 1,))
    connection.close()
    result = run(*command)
    assert result.exit_code == 1
    assert "upgrade learngate" in result.output


def test_a_folder_that_is_not_there_is_named(run, tmp_path):
    result = run("learnings", "list", "--db", tmp_path / "nowhere" / "learngate.db")
    assert result.exit_code == 1
    assert "must be a file in an existing folder" in result.stderr


def test_a_read_only_database_is_read_and_refuses_to_be_written(run, known, path, rows):
    before = rows()
    url = f"sqlite:///file:{path}?mode=ro&uri=true"
    listed = run("learnings", "list", "--db", url)
    assert listed.exit_code == 0
    assert "ETFs" in listed.stdout
    for command in (
        ("learnings", "add", "--title", "t", "--insight", "a new insight"),
        ("memories", "add", "x", "--user", "ana"),
        ("review", "4", "--approve"),
        ("chat", "-m", "hi", *MODEL),
        ("sessions", "delete", "mine", "--user", "ana", "--yes"),
    ):
        result = run(*command, "--db", url)
        assert result.exit_code == 1
        assert "is read-only" in result.stderr
        assert result.stdout == ""
    assert rows() == before


def test_a_database_that_another_process_has_locked_says_so(run, known, path, rows):
    before = rows()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert "ETFs" in run("learnings", "list").stdout
        result = run("memories", "add", "x", "--user", "ana")
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert result.exit_code == 1
    assert "was locked by another process" in result.stderr
    assert rows() == before
