"""Where the key and the head are kept: what is no good is refused with what to do, and nothing passes silently."""

import os
import stat

import pytest

from learngate.stores import ConfigurationError, ProposalDraft, open_memory
from learngate.stores.audit import Ledger
from learngate.stores.head import START, Head, Tip
from learngate.stores.keys import find_head, find_key, key_path, new_key, write_key
from tests.databases import needs_postgres, new_postgres
from tests.stores.support import Hashed
from tests.stores.tampering import KEY, faults, recalled, stock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "learngate.db"


@pytest.fixture
def key_file(path):
    return path.with_name("learngate.db.key")


@pytest.fixture
def head_file(path):
    return path.with_name("learngate.db.head")


def opened(path, **more):
    return open_memory(f"sqlite:///{path}", embedder=Hashed(), **more)


# -- keys ------------------------------------------------------------------------------------------------------


def test_no_key_means_that_nothing_is_signed_and_no_file_is_made(path, tmp_path):
    with opened(path) as memory:
        stock(memory)
        assert (memory.ledger.key, memory.ledger.links(), faults(memory)) == (None, 0, {})
    assert {one.name for one in tmp_path.iterdir()} <= {"learngate.db", "learngate.db-wal", "learngate.db-shm"}


def test_a_key_that_was_made_is_found_again_and_only_its_owner_reads_it(path, key_file):
    with opened(path) as memory:
        assert key_path(memory.database) == key_file
        made = new_key(key_file)
        write_key(made, key_file)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    with opened(path) as memory:
        assert memory.ledger.key == made
        stock(memory)
        assert faults(memory) == {}
    assert new_key(key_file) != made
    with pytest.raises(ConfigurationError, match="cannot be made"):
        write_key(new_key(key_file), key_file)


def test_a_key_never_shows_itself(path, key_file):
    write_key(new_key(key_file), key_file)
    with opened(path) as memory:
        secret = memory.ledger.key.secret.decode()
        assert secret not in repr(memory.ledger.key)
        assert secret not in f"{vars(memory.ledger)}"
        stock(memory)
    assert all(secret.encode() not in one.read_bytes() for one in path.parent.iterdir() if one != key_file)


def test_what_is_given_beats_the_environment_and_that_the_file(path, key_file, monkeypatch):
    write_key(new_key(key_file), key_file)
    monkeypatch.setenv("LEARNGATE_AUDIT_KEY", f"  {KEY}\n")
    with opened(path, audit_key=f"{KEY} given") as memory:
        assert (memory.ledger.key.secret, memory.ledger.key.source) == (f"{KEY} given".encode(), "audit_key=")
    with opened(path) as memory:
        assert (memory.ledger.key.secret, memory.ledger.key.source) == (KEY.encode(), "LEARNGATE_AUDIT_KEY")
    monkeypatch.delenv("LEARNGATE_AUDIT_KEY")
    with opened(path) as memory:
        assert memory.ledger.key.source == str(key_file)


@pytest.mark.parametrize("given", ["", " ", "short", "x" * 31, "x" * 500, "0101" * 20])
def test_a_key_that_can_be_guessed_is_refused(path, monkeypatch, given):
    with pytest.raises(ConfigurationError, match="openssl rand -hex 32"):
        opened(path, audit_key=given)
    monkeypatch.setenv("LEARNGATE_AUDIT_KEY", given)
    with pytest.raises(ConfigurationError, match="LEARNGATE_AUDIT_KEY is too short or too simple"):
        opened(path)


@pytest.mark.parametrize("given", [b"x" * 40, 7, ["a"]])
def test_a_key_that_is_no_text_is_refused(path, given):
    with pytest.raises(ConfigurationError, match="audit_key= is text, not"):
        opened(path, audit_key=given)


@pytest.mark.parametrize("content", [b"", b"\n", b"\x00" * 100, b"\xff\xfe"])
def test_a_key_file_that_holds_no_key_is_refused(path, key_file, content):
    key_file.write_bytes(content)
    key_file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"learngate\.db\.key is too short or too simple"):
        opened(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_key_file_that_others_can_read_is_refused_with_the_command_that_mends_it(path, key_file, mode):
    write_key(new_key(key_file), key_file)
    key_file.chmod(mode)
    with pytest.raises(ConfigurationError, match=rf"chmod 600 {key_file}$"):
        opened(path)
    key_file.chmod(0o600)
    opened(path).close()


def test_a_key_file_that_is_none_is_refused(path, key_file):
    key_file.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        opened(path)


def test_a_key_file_of_any_bytes_is_another_key(path, key_file):
    with opened(path, audit_key=KEY) as memory:
        stock(memory)
    key_file.write_bytes(os.urandom(64))
    key_file.chmod(0o600)
    with opened(path) as memory:
        assert recalled(memory) == set()
        assert list(faults(memory)) == ["key"]


def test_a_key_file_that_went_missing_is_no_silence(path, key_file):
    write_key(new_key(key_file), key_file)
    with opened(path) as memory:
        stock(memory)
    key_file.unlink()
    with opened(path) as memory:
        assert "11 links are signed, and its key is not here" in faults(memory)["key"]
        with pytest.raises(ConfigurationError, match="put the key file back"):
            memory.learnings.retire(1, actor="rita")


def test_a_database_in_memory_has_no_files(monkeypatch):
    with open_memory("sqlite://", embedder=Hashed(), audit_key=KEY) as memory:
        stock(memory)
        assert (key_path(memory.database), memory.ledger.head) == (None, None)
        assert faults(memory) == {}


@needs_postgres
def test_a_server_has_files_only_where_they_are_named(tmp_path, monkeypatch):
    with new_postgres() as url, open_memory(url, embedder=Hashed()) as memory:
        assert (key_path(memory.database), find_key(memory.database), find_head(memory.database)) == (None,) * 3
        monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(tmp_path / "h"))
        assert find_head(memory.database).path == tmp_path / "h"


def test_a_file_that_is_named_by_a_uri_has_its_key_beside_it(path, key_file):
    write_key(new_key(key_file), key_file)
    with open_memory(f"sqlite:///file:{path}?uri=true", embedder=Hashed()) as memory:
        assert memory.ledger.key.source == str(key_file)


def test_a_folder_has_a_head_for_each_database(path, tmp_path, monkeypatch):
    heads = tmp_path / "heads"
    heads.mkdir()
    monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(heads))
    (tmp_path / "b").mkdir()
    for database in (path, tmp_path / "b" / path.name):
        with opened(database, audit_key=KEY) as memory:
            stock(memory)
            assert faults(memory) == {}
    assert len(list(heads.glob("learngate.db-*.head"))) == 2
    with open_memory("sqlite://", embedder=Hashed(), audit_key=KEY) as memory:
        assert memory.ledger.head is None


# -- the head --------------------------------------------------------------------------------------------------


@pytest.fixture
def memory(path):
    with opened(path, audit_key=KEY) as memory:
        stock(memory)
        yield memory


def learn(memory, title="More"):
    return memory.learnings.add(ProposalDraft(title, f"Learn {title}."), namespace="default", actor="rita")


def test_the_head_follows_each_commit_in_a_file_of_its_owner_only(memory, head_file):
    assert stat.S_IMODE(head_file.stat().st_mode) == 0o600
    assert memory.ledger.head.read().seq == 11
    learn(memory)
    assert memory.ledger.head.read().seq == 13
    assert head_file.read_text().split("\n\n")[0] == f"\n{START.seq} {START.mac}"


@pytest.mark.parametrize("content", [None, b"", b"nonsense\n", b"12 abc\n", b"\xff" * 200])
def test_a_head_that_is_missing_or_unreadable_is_an_alarm_and_is_not_made_anew(memory, head_file, content, caplog):
    head_file.unlink()
    if content is not None:
        head_file.write_bytes(content)
    assert "missing or holds no head" in faults(memory)["head"]
    learn(memory)  # what a person decides is stored all the same
    assert "missing or holds no head" in caplog.text
    assert (head_file.read_bytes() if head_file.exists() else None) == content
    assert "head" in faults(memory)


def test_an_older_head_is_no_alarm(memory, head_file):
    kept = head_file.read_bytes()
    learn(memory)
    head_file.write_bytes(kept)
    assert faults(memory) == {}
    learn(memory, "Again")
    assert memory.ledger.head.read().seq == 15


def test_a_newer_head_is_an_alarm(memory, head_file):
    memory.ledger.head.advance(Tip(12, "ab" * 32))
    assert "knows link 12" in faults(memory)["head"]


def test_what_is_not_a_line_is_passed_over(memory, head_file):
    with head_file.open("ab") as file:
        file.write(b"garbage 13 " + b"a" * 64 + b"\n99 " + b"a" * 60)
    assert memory.ledger.head.read().seq == 11
    learn(memory)
    assert memory.ledger.head.read().seq == 13
    assert faults(memory) == {}


def test_the_largest_number_counts_wherever_it_stands(tmp_path):
    head = Head(tmp_path / "h")
    head.begin()
    for seq in (3, 9, 7):
        head.advance(Tip(seq, f"{seq:064x}"))
    assert head.read() == Tip(9, f"{9:064x}")
    for seq in range(10, 500):
        head.advance(Tip(seq, f"{seq:064x}"))
    assert head.read().seq == 499


def test_a_folder_that_is_not_there_stops_the_first_decision_and_stores_nothing(path, tmp_path, monkeypatch):
    monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(tmp_path / "nowhere" / "h"))
    with opened(path, audit_key=KEY) as memory:
        with pytest.raises(ConfigurationError, match="cannot be written, and nothing was stored"):
            learn(memory)
        assert memory.learnings.list(namespace="default") == []


def test_a_head_that_cannot_be_written_does_not_undo_what_is_stored(memory, head_file, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        learn(memory)
    assert "the decision is stored, but its head file" in caplog.text
    assert faults(memory) == {}


def test_a_new_database_beside_an_old_head_is_an_alarm(memory, path, head_file, tmp_path):
    (tmp_path / "new.db.head").write_bytes(head_file.read_bytes())
    with opened(tmp_path / "new.db", audit_key=KEY) as other:
        assert "ends at link 0" in faults(other)["head"]


def test_a_ledger_without_a_head_cannot_know_that_it_is_an_older_copy(memory):
    blind = Ledger(memory.database, memory.ledger.key, None)
    with blind.write() as page:
        page.connection.exec_driver_sql("DELETE FROM ledger WHERE seq = 11")
        page.connection.exec_driver_sql("DELETE FROM decisions WHERE id = 6")
    from learngate.stores.verify import all_faults

    assert list(all_faults(blind)) == []
    assert "head" in faults(memory)
