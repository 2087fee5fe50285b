"""`learngate backup`: a copy that is checked, and never over what is there."""

import json


def test_it_copies_and_says_so(stocked, told, run, tmp_path):
    copy = tmp_path / "copy.db"
    assert told("backup", copy).startswith("copied 0.")
    assert told("memories", "list", "--user", "ana", "--db", copy) == told("memories", "list", "--user", "ana")
    assert run("backup", copy).exit_code == 2
    said = json.loads(told("backup", tmp_path / "two.db", "--json"))
    assert said == {"file": str(tmp_path / "two.db"), "bytes": copy.stat().st_size}


def test_it_needs_a_file(known, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = run("backup", "-")
    assert refused.exit_code == 2
    assert "a backup needs a file" in refused.stderr
    assert not (tmp_path / "-").exists()
