"""The command as a whole: what it is called with, how fast it begins, what it looks like in a pipe."""

import json
import os
import re
import subprocess
import sys

import pytest
import typer
from click.core import ParameterSource

from learngate.app.cli import app
from learngate.app.opening import db_option
from tests.app.support import LEARNGATE, RULE, Terminal, learngate

COMMANDS = [
    *("chat", "demo", "review", "reflect", "learnings", "memories", "sessions"),
    *("doctor", "audit", "export", "import", "backup", "erase"),
]
GROUPS = {"learnings", "memories", "sessions", "audit"}
HEAVY = {"sqlalchemy", "langgraph", "langchain", "langchain_core", "faiss", "numpy", "wordllama", "google"}


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["chat", "--help"], ["learnings", "--help"], []])
def test_nothing_heavy_is_imported_before_a_command_runs(args):
    code = (
        "import sys, atexit\n"
        f"sys.argv = ['learngate', *{args!r}]\n"
        "atexit.register(lambda: print('modules', *{m.split('.')[0] for m in sys.modules}, file=sys.stderr))\n"
        "from learngate.app.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    modules = set(done.stderr.rpartition("modules ")[2].split())
    assert {"typer", "rich"} <= modules
    assert modules & HEAVY == set()


def test_the_largest_row_is_the_stores_own():
    from learngate.app import options
    from learngate.stores import guard

    assert options.LARGEST == guard.LARGEST


def test_its_version_is_the_packages(told):
    assert re.fullmatch(r"learngate \d+\.\d+\.\d+\S*\n", told("--version"))


def test_alone_it_shows_its_commands(run):
    result = run()
    assert [name for name in COMMANDS if re.search(rf"^  {name} ", result.stdout, re.MULTILINE)] == COMMANDS
    assert result.exit_code == 0
    assert "..." not in result.stdout.partition("Commands:")[2]


@pytest.mark.parametrize(
    "command", [*COMMANDS, "learnings revert", "memories add", "sessions delete", "audit init"]
)
def test_every_command_explains_itself(command, told):
    shown = told(*command.split(), "--help")
    assert shown.startswith("Usage: ")
    if command not in GROUPS:
        assert command == "demo" or "--db" in shown


def test_the_demo_is_called_with_its_options(told, monkeypatch):
    from learngate.app import demo

    called = {}
    monkeypatch.setattr(demo, "run_demo", lambda **given: called.update(given) or 0)
    told("demo", "--model", "offline", "--yes")
    assert called == {"model": "offline", "yes": True}


@pytest.mark.parametrize("name", ["what?.db", "100%25.db", "with spaces.db", "a:b@c#d.db"])
def test_a_plain_path_is_a_database_whatever_is_in_its_name(name, told, tmp_path, monkeypatch):
    told("memories", "add", "x", "--user", "ana", "--db", tmp_path / name)
    assert [path.name for path in tmp_path.glob("*.db")] == [name]
    monkeypatch.setenv("LEARNGATE_DB", str(tmp_path / name))
    assert "x" in told("memories", "list", "--user", "ana")


@pytest.mark.parametrize("command", [["learnings", "list"], ["review", "4"], ["doctor"], ["sessions", "list"]])
def test_a_pipe_gets_whole_lines_with_no_colour_and_no_boxes(command, known, tmp_path):
    done = learngate(*command, cwd=tmp_path, env={"COLUMNS": "40"})
    assert done.returncode == 0
    assert not re.search(r"[\x1b╭╮╰╯│─…]", done.stdout + done.stderr)
    if command[0] == "learnings":
        assert RULE in done.stdout
    if command[0] == "review":
        assert "Compare the fees of funds over ten years." in done.stdout


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_colours_unless_they_are_not_wanted(env, coloured, known, tmp_path):
    with Terminal("review", "4", cwd=tmp_path, env=env) as terminal:
        terminal.expect("▸ ")
        terminal.type("l")
        assert terminal.end() == 0
    colours = re.findall(rb"\x1b\[[0-9;]*3[0-7][0-9;]*m", terminal.raw)
    assert bool(colours) is coloured


def test_a_reader_that_leaves_early_is_no_error(known, tmp_path):
    done = subprocess.run(
        f"'{LEARNGATE}' learnings list --all | head -c 1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.stdout == b"i"


def test_a_terminal_of_another_encoding_shows_question_marks(known, tmp_path):
    done = learngate("review", "4", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "title     Fees" in done.stdout
    assert learngate("review", "4", "--json", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"}).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        *("export out.jsonl", "export -", "backup copy.db", "erase --user ana --yes", "doctor --verify"),
        *("doctor --repair", "memories list --user ana", "sessions list", "learnings list", "learnings show 1"),
        *("learnings search funds", "review", "reflect --model offline"),
    ],
)
def test_a_database_that_is_not_there_is_named_and_not_made(command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for made in (False, True):
        if made:
            (tmp_path / "typo.db").touch()
        result = run(*command.split(), "--db", "typo.db")
        assert result.exit_code == 1
        assert "there is no database at typo.db: name it with --db, or run from the folder" in result.output
        assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [("typo.db", 0)] * made


def test_the_first_look_of_a_doctor_is_no_alarm(told, tmp_path):
    assert "is not there yet" in told("doctor", "--db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("args", ["learnings show x --json", "--loud learnings list --json", "learn --json"])
def test_a_command_line_that_is_wrong_is_json_for_whoever_reads_json(args, tmp_path):
    done = learngate(*args.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]
    assert "Error: " in done.stderr


def test_ctrl_c_while_it_is_imported_is_quiet(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    code = "from learngate.app.entry import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_a_report_that_nobody_reads_to_its_end_is_no_failure(known, tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([LEARNGATE, "doctor"], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql+psycopg://ana:hunter2@host/memory", " --db 'postgresql+psycopg://ana:***@host/memory'"),
        (
            "postgresql+psycopg://ana@host/memory?password=hunter2&sslmode=require",
            " --db 'postgresql+psycopg://ana@host/memory?password=%2A%2A%2A&sslmode=require'",
        ),
        ("postgresql+psycopg://ana:hunter2@host:port/memory", ""),
        ("://hunter2", ""),
        ("a file.db", " --db 'a file.db'"),
    ],
)
def test_a_suggested_command_names_no_password(given, shown):
    typed = typer.Context(typer.main.get_command(app))
    typed.params["db"] = given
    typed.set_parameter_source("db", ParameterSource.COMMANDLINE)
    assert db_option(typed) == shown


@pytest.mark.parametrize("url", ["://x", "postgresql+psycopg://ana:hunter2@host:port/memory"])
@pytest.mark.parametrize("command", [("doctor",), ("learnings", "list"), ("chat", "-m", "hi")])
def test_what_is_no_url_is_refused_in_words(run, command, url):
    result = run(*command, "--db", url)
    assert result.exit_code in {1, 2}
    assert "Traceback" not in result.stderr + result.stdout
    assert "hunter2" not in result.stderr + result.stdout
