"""`learngate export` and `import`: through a file or a pipe, to another database, whole or not at all."""

import json
import stat

from tests.app.support import learngate


def test_a_file_is_written_whole_for_its_owner_alone_and_imported_once(stocked, told, run, tmp_path):
    file = tmp_path / "all.jsonl"
    shown = told("export", file)
    kept = file.read_text().splitlines()
    assert shown == f"exported {len(kept)} lines to {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(kept[-1])["kind"] == "end"
    other = tmp_path / "other.db"
    first = told("import", file, "--db", other, "--reviewer", "ida")
    assert first == "imported 1 session · 1 memory · 4 proposal · 2 learning · 1 turn\n"
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
    assert refused.exit_code == 2
    assert "nothing was imported" in refused.stderr
    assert told("memories", "list", "--user", "ana", "--db", tmp_path / "other.db").startswith("nothing")
    assert run("import", tmp_path / "none").exit_code == 2
    assert run("export", tmp_path / "none" / "x").exit_code == 2


def test_an_export_that_fails_leaves_no_file(stocked, run, tmp_path):
    assert run("export", tmp_path / "x.jsonl", "--namespace", "a//b").exit_code == 2
    assert not [path for path in tmp_path.iterdir() if "jsonl" in path.name]
