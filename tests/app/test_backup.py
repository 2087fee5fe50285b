"""`learngate backup`: a copy that is checked, and never over what is there."""

import json


def test_it_copies_and_says_so(stocked, told, run, tmp_path):
    copy = tmp_path / "copy.db"
    assert told("backup", copy).startswith("copied 0.")
    assert told("memories", "list", "--user", "ana", "--db", copy) == told("memories", "list", "--user", "ana")
    assert run("backup", copy).exit_code == 2
    said = json.loads(told("backup", tmp_path / "two.db", "--json"))
    assert said == {"file": str(tmp_path / "two.db"), "bytes": copy.stat().st_size}
