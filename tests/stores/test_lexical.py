import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sqlalchemy import text as sql

from learngate.stores import Memory, StoreError, open_memory
from learngate.stores.fts5 import MARK
from learngate.stores.lexical import content_words, scope_token, search, search_body
from learngate.stores.tables import learnings, turns, user_memories
from learngate.stores.text import words
from tests.stores.support import Hashed, check_index, draft, turn

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=40)
SYNTAX = st.lists(
    st.sampled_from(
        [
            '"',
            "'",
            "(",
            ")",
            "AND",
            "OR",
            "NOT",
            "NEAR(a b)",
            "*",
            "^",
            ":",
            "-",
            "+",
            "{",
            "}",
            "\\",
            "\x00",
            "body:",
            "tea",
        ]
    ),
    max_size=8,
).map(" ".join)

on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def shared():
    """One memory for examples that only read."""
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        for user in ("ana", "ben"):
            for fact in ("drinks tea", "writes C++", "喜欢基金费用", "AND OR NOT NEAR", "scope body x", "___", "…"):
                memory.users.remember(user, fact)
        yield memory


def find(memory: Memory, query: str, *users: str, limit: int = 50) -> dict[int, float]:
    with memory.database.read() as connection:
        scopes = [scope_token("user", user) for user in users or ("ana",)]
        found = search(connection, user_memories, scopes=scopes, query=query, limit=limit)
        return {row: score for row, score, _ in found}


@given(ANY_TEXT | SYNTAX)
@example('" OR scope:"x')
@example("a" * 100_000)
@example("費" * 50_000)
def test_any_text_is_a_safe_query_and_finds_ones_own_alone(shared, query):
    mine = {m.id for m in shared.users.list("ana")}
    found = find(shared, query)
    assert found.keys() <= mine
    assert all(score > 0 for score in found.values())
    assert find(shared, query, "eve") == {}


@pytest.mark.parametrize(
    "query",
    [
        scope_token("user", "ben"),
        f"scope:{scope_token('user', 'ben')}",
        f'" OR scope:"{scope_token("user", "ben")}',
    ],
)
def test_knowing_anothers_token_does_not_help(shared, query):
    assert find(shared, query).keys() <= {m.id for m in shared.users.list("ana")}


@pytest.mark.parametrize("query", ["", " ", "…", "___", "☕", "\x00", "\u0300"])
def test_a_query_without_a_word_finds_nothing(shared, query):
    assert find(shared, query) == {}


def test_each_scope_has_a_token_of_its_own():
    tokens = {
        scope_token(kind, name) for kind in ("user", "namespace", "nobody") for name in ("", "a", "a/b", "user:a")
    }
    assert len(tokens) == 12
    assert all(token.isalnum() for token in tokens)


# -- the index follows the rows ------------------------------------------------------------------------------

VOCABULARY = ["tea", "fund", "risk", "x9", "费用", "ärger", "Straße", "ＥＴＦ"]
FACTS = st.lists(st.sampled_from([*VOCABULARY, "基金费用"]), min_size=1, max_size=4).map(" ".join)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["remember", "update", "forget", "erase"]), st.sampled_from(["ana", "ben"]), FACTS
        ),
        max_size=20,
    )
)
def test_after_any_changes_a_word_finds_the_rows_that_hold_it(steps):
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        for step, user, fact in steps:
            mine = memory.users.list(user)
            taken = {m.text for m in mine}
            if step == "remember":
                memory.users.remember(user, fact)
            elif step == "erase" and len(mine) > 3:
                memory.users.erase(user)
            elif step == "forget" and mine:
                memory.users.forget(user, mine[-1].id)
            elif step == "update" and mine and fact not in taken:
                memory.users.update(user, mine[-1].id, fact)
        for user in ("ana", "ben"):
            for word in VOCABULARY:
                expected = {m.id for m in memory.users.list(user) if any(word in w for w in m.text.split())}
                assert find(memory, word, user).keys() == expected
        check_index(memory)


@on_sqlite
def test_a_rebuilt_index_is_the_same_index(memory):
    """FTS5's own repair must not bring back what is retired, forgotten or failed."""
    for number in range(4):
        memory.learnings.add(draft(f"tea {number}"), namespace="n", actor="ana")
        memory.users.remember("ana", f"tea {number}")
        memory.sessions.append(turn("s", f"tea {number}", status="failed" if number == 2 else "complete"))
    memory.learnings.retire(2, actor="ana")
    memory.users.forget("ana", 2)
    check_index(memory)

    scopes = {
        "learnings": scope_token("namespace", "n"),
        "user_memories": scope_token("user", "ana"),
        "turns": scope_token("nobody", ""),
    }

    def everything() -> list[list[int]]:
        with memory.database.read() as connection:
            return [
                list(
                    connection.scalars(
                        sql(f"SELECT rowid FROM {table}_fts WHERE {table}_fts MATCH :word ORDER BY rowid"),
                        {"word": f'"{MARK}{scope}stea"'},
                    )
                )
                for table, scope in scopes.items()
            ]

    before = everything()
    assert before == [[1, 3, 4], [1, 3, 4], [1, 2, 4]]
    with memory.database.write() as connection:
        for table in ("learnings", "user_memories", "turns"):
            connection.execute(sql(f"INSERT INTO {table}_fts({table}_fts) VALUES ('rebuild')"))
    assert everything() == before


@on_sqlite
def test_the_check_of_the_index_sees_a_row_that_slipped_past_it(memory):
    memory.learnings.add(draft("tea"), namespace="n", actor="ana")
    with memory.database.write() as connection:
        connection.execute(sql("DROP TRIGGER learnings_fts_update"))
        connection.execute(sql("UPDATE learnings SET body = 'coffee'"))
    with pytest.raises(StoreError):
        check_index(memory)


# -- words ---------------------------------------------------------------------------------------------------

LETTERS = st.characters(categories=["L", "N"], max_codepoint=0x4FF) | st.characters(
    min_codepoint=0x4E00, max_codepoint=0x9FFF
)


@given(st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join))
@example("Straße")
@example("ＥＴＦ ﬁnance x² ½ İstanbul")
@example("ｶﾀｶﾅ 한국어 ไทย العربية हिन्दी")
def test_a_text_is_found_by_its_own_words(text):
    assume(content_words(text))
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        memory.users.remember("ana", text)
        assert find(memory, text)


SIGN = st.characters(
    max_codepoint=0x7F, exclude_categories=["L", "N"], exclude_characters="\x00"
) | st.sampled_from("–—“”‘’«»…·•¿¡、。「」・！\u3000\u00a0\u2028\u200b\x85€£°©→✓☕")


@given(st.lists(SIGN, min_size=1, max_size=3).map("".join))
@example("\x0b")
@example("\u00a0“")
@example("_")
@example("'")
def test_a_word_is_found_whatever_sign_it_stands_behind(sign):
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        memory.users.remember("ana", f"first{sign}second")
        memory.users.remember("ana", f"{sign}second{sign}first{sign}")
        for word in {"first", "second"} & {*words(f"first{sign}second")}:
            assert find(memory, word).keys() == {1, 2}
        check_index(memory)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("the fund's costs, (quoted) “smart” and—dashed", "quoted smart dashed"),
        ("snake_case and dunder__init__", "snake"),
        ("snake_case", "snake_case"),
        ("a\tb\r\ncolumn", "column"),
        ("comparing ETFs", "compare an etf"),
        ("Straße", "STRASSE"),
        ("Ärger", "arger"),
        ("naïve", "naive"),
        ("我想比较基金费用", "费用"),
        ("我想比较基金费用", "基金的费用"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("expense-ratio", "ratio"),
    ],
)
def test_other_forms_of_a_word_find_it(memory, written, asked):
    memory.users.remember("ana", written)
    assert find(memory, asked)


def test_what_needs_no_addition_is_indexed_as_it_is():
    assert search_body("Compare ETFs,", "", "naïve Ärger") == "Compare ETFs,\nnaïve Ärger"
    assert search_body("费用比较") == "费用比较\n费用 用比 比较"
    assert search_body("a\x00b\ud800") == "a b?"


def test_stop_words_are_left_out_unless_nothing_else_is_left():
    assert content_words("What is the best ETF for me, the ETF?") == ["best", "etf"]
    assert content_words("what is it") == ["what", "is", "it"]
    assert content_words("!") == []
    assert len(content_words(" ".join(f"w{n}" for n in range(500)))) == 64


def test_the_best_match_comes_first(memory):
    for fact in ("tea", "tea and much else besides that is not about it", "tea tea tea"):
        memory.users.remember("ana", fact)
    found = find(memory, "tea")
    assert list(found) == sorted(found, key=found.__getitem__, reverse=True)
    assert list(found)[-1] == 2
    assert len(find(memory, "tea", limit=2)) == 2
    assert list(find(memory, "tea", limit=2)) == list(found)[:2]


def test_several_scopes_are_searched_at_once(memory):
    memory.learnings.add(draft("mind costs"), namespace="acme", actor="ana")
    memory.learnings.add(draft("mind costs"), namespace="acme/finance", actor="ana")
    memory.learnings.add(draft("mind costs"), namespace="other", actor="ana")
    with memory.database.read() as connection:
        scopes = [scope_token("namespace", one) for one in ("acme", "acme/finance")]
        assert {row for row, *_ in search(connection, learnings, scopes=scopes, query="costs", limit=9)} == {1, 2}
        assert search(connection, turns, scopes=scopes, query="costs", limit=9) == []


@pytest.mark.parametrize("sign", ["—", "“", " ", ".", "\u00a0"])
def test_a_text_that_holds_anothers_tagged_words_is_not_theirs(memory, sign):
    tag = f"{MARK}{scope_token('user', 'bob')}s"
    memory.users.remember("bob", "zebra crossing")
    (before,) = find(memory, "secret zebra", "bob").values()
    for number in range(60):
        memory.users.remember("alice", f"Note {number}: {sign}{tag}secret{sign}{tag}zebra {tag}zebra")
    assert find(memory, "secret zebra", "bob", limit=1).keys() == find(memory, "secret zebra", "bob").keys() == {1}
    if memory.database.dialect == "sqlite":
        # How many rows there are, and how long, is all that others change.
        assert find(memory, "secret zebra", "bob")[1] > before


@on_sqlite
def test_a_question_with_a_possessive_is_not_about_everything(memory):
    for fact in ("tea  --  “please” ☕", "the fund's costs", "—"):
        memory.users.remember("ana", fact)
    assert find(memory, "what's").keys() == find(memory, "s").keys() == {2}
    memory.sessions.append(turn("s1", "Tea please", user_id="ana"))
    assert memory.sessions.search("š's", user_id="ana") == []


@on_sqlite
@pytest.mark.parametrize("filling", ["-" * 1900, " - " * 600, "\ue000" * 600, "<>" * 900])
def test_signs_are_no_words_however_many_others_write(memory, filling):
    memory.users.remember("ben", "zebra crossing")
    memory.users.remember("ben", "a zebra, and much besides that makes it longer")
    scores = []
    for number in range(2):
        for other in range(5):
            memory.users.remember(f"eve {number}", f"{filling if number else ''} x{other}")
        scores.append(find(memory, "zebra", "ben"))
        memory.users.erase(f"eve {number}")
    assert scores[0] == scores[1]


@on_sqlite
def test_an_update_that_is_skipped_leaves_the_index_as_it_is(memory):
    for number in range(2):
        memory.learnings.add(draft(f"tea {number}"), namespace="n", actor="ana")
    with memory.database.write() as connection:
        connection.execute(sql("UPDATE OR IGNORE learnings SET id = 1 WHERE id = 2"))
        connection.execute(sql("UPDATE learnings SET status = 'retired' WHERE id = 2"))
        connection.execute(sql("UPDATE learnings SET status = 'active', title = 'x' WHERE id = 2"))
    check_index(memory)


def test_a_text_that_holds_anothers_token_is_not_theirs(memory):
    memory.sessions.append(turn("a", f"my invoice advice {scope_token('user', 'bob')}", user_id="alice"))
    memory.sessions.append(turn("b", "which invoice is due", user_id="bob"))
    found = memory.sessions.search("invoice advice", user_id="bob")
    assert [hit.turn.session_id for hit in found] == ["b"]
