"""`learngate export` and `import`: through a file or a pipe, to another database, whole or not at all."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from learngate.stores import open_memory
from tests.app.support import LEARNGATE, RULE, learngate


def test_a_file_is_written_whole_for_its_owner_alone_and_imported_once(stocked, told, run, tmp_path):
    file = tmp_path / "all.jsonl"
    shown = told("export", file)
    kept = file.read_text().splitlines()
    assert shown == f"exported 1 session · 1 memory · 4 proposals · 2 learnings · 1 turn to {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(kept[-1])["kind"] == "end"
    other = tmp_path / "other.db"
    first = told("import", file, "--db", other, "--reviewer", "ida")
    assert first == "imported 1 session · 1 memory · 4 proposals · 2 learnings · 1 turn\n"
    again = told("import", file, "--db", other, "--reviewer", "ida")
    assert again.splitlines()[0] == "imported nothing new"
    assert told("learnings", "list", "--all", "--db", other) == told("learnings", "list", "--all")
    refused = run("export", file)
    assert (refused.exit_code, file.read_text().splitlines()) == (2, kept)


def test_it_goes_through_a_pipe(known, tmp_path):
    out = learngate("export", "-", "--user", "ana", cwd=tmp_path)
    assert {json.loads(line)["kind"] for line in out.stdout.splitlines()} == {
        "learngate",
        "session",
        "memory",
        "turn",
        "end",
    }
    took = learngate("import", "-", "--json", "--db", "other.db", cwd=tmp_path, stdin=out.stdout.encode())
    assert json.loads(took.stdout)["new"] == {"session": 1, "memory": 1, "turn": 1}


def test_a_file_that_is_cut_off_or_not_there_is_refused(stocked, told, run, tmp_path):
    file = tmp_path / "all.jsonl"
    told("export", file)
    file.write_bytes(file.read_bytes()[:-100])
    refused = run("import", file, "--db", tmp_path / "other.db")
    assert refused.exit_code == 1
    assert "nothing was imported: export it again" in refused.stderr
    assert told("memories", "list", "--user", "ana", "--db", tmp_path / "other.db").startswith("nothing")
    missing = run("import", tmp_path / "none")
    assert missing.exit_code == 1
    assert "cannot be read" in missing.stderr
    assert run("export", tmp_path / "none" / "x").exit_code == 2


def test_an_export_that_fails_leaves_no_file(stocked, run, tmp_path):
    assert run("export", tmp_path / "x.jsonl", "--namespace", "a//b").exit_code == 2
    assert not [path for path in tmp_path.iterdir() if "jsonl" in path.name]


@pytest.mark.parametrize("target", ["x.jsonl", "-"])
@pytest.mark.parametrize(
    "part",
    [["--user", "ANA"], ["--namespace", "Default"], ["--user", "ana", "--namespace", "nosuch"]],
    ids=["user", "namespace", "both"],
)
def test_a_part_that_is_not_there_is_no_export(part, target, stocked, run, tmp_path):
    file = tmp_path / target if target != "-" else target
    refused = run("export", file, *part)
    assert refused.exit_code == 1
    assert f"nothing of {part[-1]} is here" in refused.stderr
    assert not [path for path in tmp_path.iterdir() if "jsonl" in path.name]
    if len(part) == 2:
        assert refused.stdout == ""


def test_who_imported_a_learning_and_when_is_shown(stocked, told, tmp_path):
    told("export", tmp_path / "all.jsonl")
    other = ("--db", tmp_path / "other.db")
    told("import", tmp_path / "all.jsonl", "--reviewer", "ida", *other)
    assert "imported by  ida · 20" in told("learnings", "show", "1", *other)
    assert "imported by  ida · 20" in told("learnings", "history", "1", *other)
    assert json.loads(told("learnings", "history", "1", "--json", *other))[0]["imported_by"] == "ida"
    told("learnings", "edit", "1", "--title", "Funds", "--reviewer", "ben", *other)
    with open_memory(f"sqlite:///{tmp_path / 'other.db'}") as memory:
        before, after = memory.learnings.history(1)
    assert (before.imported_by, after.imported_by, after.imported_at) == ("ida", None, None)
    assert before.imported_at > before.at
    assert "imported by" not in told("learnings", "show", "1")


def test_a_learning_that_is_here_in_other_rows_is_said_to_be_retired(stocked, told, tmp_path):
    told("export", tmp_path / "all.jsonl")
    other = ("--db", tmp_path / "other.db")
    told("learnings", "add", "--title", "ETFs", "--insight", RULE, *other)
    took = told("import", tmp_path / "all.jsonl", *other)
    assert "learning 2 was retired at once: learning 1 already said that\n" in took


def test_a_refused_import_names_what_it_is_and_the_way_on(stocked, told, run, tmp_path):
    told("export", tmp_path / "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_bytes().splitlines(keepends=True)
    other = ("--db", tmp_path / "other.db")

    def refused(content):
        (tmp_path / "bad.jsonl").write_bytes(content)
        result = run("import", tmp_path / "bad.jsonl", *other)
        assert result.exit_code == 1
        assert "nothing was imported" in result.stderr
        return result.stderr

    assert "export it again" in refused(b"".join(lines) * 2)
    assert "export it again" in refused(b"letter\n")
    assert "export it again" in refused(b'{"kind":"other"}\n')
    told("import", tmp_path / "all.jsonl", *other)
    told("learnings", "edit", "1", "--title", "Funds", *other)
    told("learnings", "edit", "1", "--title", "ETFs, compared")
    (tmp_path / "all.jsonl").unlink()
    told("export", tmp_path / "all.jsonl")
    parted = refused((tmp_path / "all.jsonl").read_bytes())
    assert "learning 1 ('Funds') is at revision 2 here" in parted
    assert "`learngate learnings history 1`" in parted
    assert "--user NAME" in parted


def test_a_session_of_somebody_else_has_a_way_around_it(stocked, told, run, tmp_path):
    stocked.users.remember("ben", "The user is Ben.")
    told("export", tmp_path / "all.jsonl")
    other = ("--db", tmp_path / "other.db")
    told("chat", "-m", "hi", "--session", "mine", "--user", "eve", "--model", "offline", *other)
    refused = run("import", tmp_path / "all.jsonl", *other)
    assert refused.exit_code == 1
    assert "session 'mine' belongs to 'eve' here and to 'ana' in the export" in refused.stderr
    assert "leave ana's sessions out: export the others, one --user NAME at a time" in refused.stderr
    told("export", tmp_path / "ben.jsonl", "--user", "ben")
    assert told("import", tmp_path / "ben.jsonl", *other) == "imported 1 memory\n"


@pytest.mark.parametrize(
    ("command", "done"),
    [
        (["import", "all.jsonl", "--db", "other.db"], "imported 1 session"),
        (["import", "all.jsonl", "--db", "other.db", "--json"], "imported 1 session"),
        (["export", "-"], ""),
        (["export", "more.jsonl"], "exported 1 session"),
        (["backup", "copy.db"], "copied to copy.db"),
        (["erase", "--user", "ana", "--yes"], "ana was erased"),
        (["doctor"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_output_that_has_no_room_is_one_line_which_says_what_was_done(command, done, stocked, told, tmp_path):
    told("export", tmp_path / "all.jsonl")
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [LEARNGATE, *command], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False
        )
    said = ended.stderr.decode()
    assert (ended.returncode, said.count("\n")) == (1, 1), said
    assert done in said
    assert "the output cannot be written: No space left on device" in said
