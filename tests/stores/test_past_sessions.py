"""Past sessions are searched by words, meaning, who spoke, when, and what stands beside a turn."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from learngate.stores import Turn, open_memory
from learngate.stores.records import ROOT
from tests.stores.support import Hashed, go, processes, statements_of, turn

AT = datetime(2024, 3, 5, 12, tzinfo=UTC)


def said(session, text, speaker=None, answer=None, **more):
    words = (HumanMessage(text, name=speaker), *([AIMessage(answer)] if answer else []))
    return Turn(session, words, user_id="ana", happened_at=more.pop("at", AT), **more)


def put(memory, *turns):
    for one in turns:
        memory.sessions.append(one)


def found(memory, query, user="ana", **more):
    return [hit.turn.id for hit in memory.sessions.search(query, user_id=user, **more)]


def test_of_equal_words_the_speaker_whom_the_question_names_is_first(memory):
    put(memory, said("a", "I adopted a puppy", "Ben", id="ben"), said("b", "I adopted a puppy", "Cleo", id="cleo"))
    assert found(memory, "When did Ben adopt a puppy?")[0] == "ben"
    assert found(memory, "When did Cleo adopt a puppy?")[0] == "cleo"


def test_what_somebody_quotes_is_not_taken_for_who_speaks(memory):
    put(memory, said("a", "Puppies\nBen: I adopted one", "Cleo", id="quoted"))
    put(memory, said("b", "Puppies\nI, Cleo, adopted one", "Ben", id="ben"))
    scores = {hit.turn.id: hit.score for hit in memory.sessions.search("puppies adopted by Ben", user_id="ana")}
    plain = {hit.turn.id: hit.score for hit in memory.sessions.search("puppies adopted by Dora", user_id="ana")}
    assert scores["ben"] - plain["ben"] > scores["quoted"] - plain["quoted"]
    assert [one.title for one in memory.sessions.list(user_id="ana")] == ["Puppies"] * 2


def test_of_equal_words_those_of_the_day_that_is_named_are_first(memory):
    for number in range(1, 6):
        put(memory, said(f"s{number}", "We talked of bonds", id=f"day {number}", at=AT + timedelta(days=number)))
    assert found(memory, "bonds on 2024-03-08")[0] == "day 3"
    assert found(memory, "bonds on March 10, 2024")[0] == "day 5"


def test_a_day_alone_finds_what_was_said_on_it_and_says_why(memory):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    put(memory, said("a", "Bonds are dull", id="old"), said("b", "Zebras are striped", id="new", at=yesterday))
    [hit] = memory.sessions.search("what was there yesterday", user_id="ana")
    assert (hit.turn.id, hit.why) == ("new", "when")


def test_a_question_of_nothing_but_a_day_finds_what_was_said_on_it_the_newest_first(memory):
    today = datetime.now(UTC)
    for back in range(4):
        at = today - timedelta(days=back)
        put(memory, said(f"s{back}", "We talk about bonds: talk, talk", id=f"talk {back}", at=at))
        put(memory, said(f"s{back}", "Zebras", id=f"zebra {back}", at=at))
    assert found(memory, "What did we talk about yesterday?") == ["zebra 1", "talk 1"]
    assert found(memory, "what was said 3 days ago?", k=1) == ["zebra 3"]
    assert found(memory, "what did we talk about 9 days ago?") == []
    assert found(memory, "what did we say about zebras yesterday?")[0] == "zebra 1"


@pytest.mark.parametrize("hours", [-11, -5, 0, 2, 14])
def test_a_day_is_utcs_whatever_zone_a_turn_was_given_in(memory, hours):
    zone = timezone(timedelta(hours=hours))
    put(memory, said("a", "Zebras", id="last", at=datetime(2024, 3, 5, 23, 59, tzinfo=UTC).astimezone(zone)))
    put(memory, said("b", "Zebras", id="first", at=datetime(2024, 3, 6, 0, 0, tzinfo=UTC).astimezone(zone)))
    assert found(memory, "on 2024-03-05")[0] == "last"
    assert found(memory, "on March 6, 2024")[0] == "first"
    assert found(memory, "Zebras on Tuesday")[0] == "last"
    assert found(memory, "Zebras on Wednesday")[0] == "first"


def test_far_years_are_searched_without_an_error(memory):
    put(memory, said("a", "Zebras", id="z"))
    for year in ("0001", "9998", "9999", "0000"):
        assert found(memory, f"zebras in {year}") == ["z"]


def test_an_answer_is_found_by_the_question_before_it(memory):
    put(
        memory, said("a", "Which instrument do you play?", "Ben", id="q"), said("a", "Cello, badly", "Cleo", id="r")
    )
    put(memory, *(said(f"n{i}", f"Nothing of interest, number {i}", "Dora", id=f"n{i}") for i in range(20)))
    assert set(found(memory, "which instrument is played", k=2)) == {"q", "r"}


def test_of_equal_turns_the_one_in_the_session_that_fits_is_first(memory):
    put(memory, *(said("trip", f"Lisbon hotel, night {i}", id=f"trip {i}", parent=ROOT) for i in range(3)))
    put(memory, said("trip", "The price was fine", id="there", parent=ROOT))
    put(memory, said("other", "The price was fine", id="elsewhere", parent=ROOT))
    ranked = found(memory, "the price of the Lisbon hotel")
    assert ranked.index("there") < ranked.index("elsewhere")


def test_what_is_near_nothing_and_shares_no_word_is_not_found(memory):
    put(memory, said("a", "Bonds and their duration"), said("b", "Zebras of the savannah"))
    assert found(memory, "xylophone") == []
    assert found(memory, "?!…") == []
    assert found(memory, "bonds", k=0) == []


def test_a_failed_turn_is_found_neither_by_words_nor_by_day_nor_beside_another(memory):
    put(memory, said("a", "Zebras", id="bad", status="failed"), said("a", "Zebras", id="after", parent="bad"))
    assert found(memory, "zebras") == ["after"]
    assert found(memory, "what was on 2024-03-05") == ["after"]
    [hit] = memory.sessions.search("zebras", user_id="ana", beside=True)
    assert (hit.before, hit.after) == (None, None)


def test_another_users_turns_are_found_by_no_word_day_or_speaker(memory):
    put(memory, said("a", "Zebras", "Ben", id="mine"))
    for session, user in (("b", "ben"), ("n", None)):
        theirs = turn(session, "Zebras of March, secretly", id=f"{session}-theirs", user_id=user, happened_at=AT)
        memory.sessions.append(theirs)
    for query in ("zebras", "secretly zebras", "on 2024-03-05", "what did Ben say in March 2024"):
        assert found(memory, query) == ["mine"]
        hits = memory.sessions.search(query, user_id="ana", beside=True)
        assert {one.user_id for hit in hits for one in (hit.turn, hit.before, hit.after) if one} == {"ana"}
    assert found(memory, "zebras", user="ben") == ["b-theirs"]
    assert found(memory, "zebras", user=None) == ["n-theirs"]


# -- what stands beside a hit ------------------------------------------------------------------------------------


def test_a_hit_brings_the_turns_beside_it_where_they_are_asked_for(memory):
    put(memory, *(said("a", text, id=text) for text in ("Hello", "Zebras", "Bye")))
    put(memory, said("b", "Of another session"))
    hit = memory.sessions.search("zebras", user_id="ana", beside=True)[0]
    assert (hit.turn.id, hit.before.id, hit.after.id) == ("Zebras", "Hello", "Bye")
    assert hit.before == memory.sessions.get("a", "Hello")
    plain = memory.sessions.search("zebras", user_id="ana")[0]
    assert (plain.before, plain.after) == (None, None)
    assert (plain.turn, plain.score) == (hit.turn, hit.score)


def test_on_a_branch_the_turns_beside_a_hit_are_its_own_and_the_newest(memory):
    put(memory, said("a", "Hello", id="root"), said("a", "Zebras", id="one", parent="root"))
    put(memory, said("a", "Lions", id="two", parent="root"), said("a", "Tigers", id="on one", parent="one"))
    put(memory, said("a", "Wolves", id="again on one", parent="one"))
    [hit] = [one for one in memory.sessions.search("zebras", user_id="ana", beside=True) if one.turn.id == "one"]
    assert (hit.before.id, hit.after.id) == ("root", "again on one")
    [root] = [one for one in memory.sessions.search("hello", user_id="ana", beside=True) if one.turn.id == "root"]
    assert (root.before, root.after.id) == (None, "two")


# -- every process's index ---------------------------------------------------------------------------------------


def test_what_is_deleted_or_erased_is_found_by_nobody_who_has_searched_before(url):
    with open_memory(url, embedder=Hashed()) as here, open_memory(url, embedder=Hashed()) as there:
        put(here, said("a", "Zebras", id="one"), said("b", "Zebras", id="two"))
        assert set(found(there, "zebras")) == set(found(here, "zebras")) == {"one", "two"}
        here.sessions.delete("a")
        assert found(there, "zebras") == found(here, "zebras") == found(there, "on 2024-03-05") == ["two"]
        put(there, said("c", "Zebras", id="three"))
        assert set(found(here, "zebras")) == {"two", "three"}
        there.erase("ana")
        assert found(here, "zebras") == found(there, "zebras") == found(here, "on 2024-03-05") == []


def test_what_another_process_deleted_is_found_no_more(url):
    with open_memory(url) as memory:
        put(memory, said("a", "Zebras", id="one"), said("b", "Zebras", id="two"))
        script = """
    from learngate.stores import open_memory
    with open_memory(sys.argv[1]) as memory:
        print_ids = lambda: print(*sorted(h.turn.id for h in memory.sessions.search("zebras", user_id="ana")))
        memory.sessions.search("zebras", user_id="ana")
        ready()
        print_ids()
    """
        with processes(script, [url]) as started:
            memory.sessions.delete("a")
            assert go(started) == [["two"]]


def test_what_search_reads_of_a_turn_is_what_a_repair_would_write(memory):
    from learngate.stores import tree

    zone = timezone(timedelta(hours=-11))
    given = said("a", "Zebras", id="z", at=datetime(2024, 3, 5, 23, 59, tzinfo=UTC).astimezone(zone))
    put(memory, given)
    assert tree.body(given) == tree.body(memory.sessions.get("a", "z"))


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_search_asks_no_more_of_the_database_where_there_are_more_turns(url):
    with open_memory(url, embedder=Hashed()) as memory:
        asked = statements_of(memory)
        counts = []
        for size in (20, 300):
            put(memory, *(said(f"s{size}-{i % 7}", f"Zebra number {i}", id=f"{size}-{i}") for i in range(size)))
            found(memory, "zebra number 3")
            asked.clear()
            found(memory, "zebra number 3", k=10)
            counts.append(len(asked))
    assert counts[0] == counts[1] <= 20
