"""A chat on a real terminal: the answer, the gate, Ctrl-C, coming back."""

from rich.cells import cell_len

from learngate.stores import Decision, open_memory
from tests.app.support import GEMINI, RULE, Gemini, Terminal
from tests.doubles.gemini import HttpError, Json, Slow, Text

CTRL_C, CTRL_D = b"\x03", b"\x04"
ANA = ("chat", "--user", "ana", "--session", "etfs", "--namespace", "finance")
NOTHING = Json({"memories": [], "learning": None})
CHOICES = "[a]pprove  [e]dit  [r]eject with a note  [l]ater"


def memory(tmp_path):
    return open_memory(f"sqlite:///{tmp_path}/learngate.db")


def propose(terminal):
    """Say what the stand-in takes for a rule, and read to the choices."""
    terminal.type(RULE)
    shown = terminal.expect("▸ ")
    while CHOICES not in shown:
        shown += terminal.expect("▸ ")
    return shown


def test_the_card_shows_everything_and_approving_it_teaches_the_next_user(tmp_path):
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        header = terminal.expect("ana ▸ ")
        assert "learngate · offline stand-in · learngate.db · 0 learnings" in header
        assert "no key is set: GOOGLE_API_KEY, or --model," in header
        assert "session etfs, new · ana" in header
        terminal.type("I'm interested in AI stocks.")
        terminal.expect("remembered · The user is interested in AI stocks. (memory 1)")
        terminal.expect("ana ▸ ")
        card = propose(terminal)
        assert "recalled 1 turn · 1 memory · 0 learnings · " in card
        assert "proposed learning · finance" in card
        for line in (
            "│ When comparing ETFs, check both expense ratio and tracking error.            │",
            "rests on      ana, this turn: “When comparing ETFs, check both",
            "nearest       none above 0.35",
            "proposer      offline",
        ):
            assert line in card
        terminal.type("a")
        terminal.expect("approved by ana · learning 1 · `learngate learnings show 1`")
        terminal.expect("ana ▸ ")
        terminal.press(CTRL_D)
        terminal.expect("go on with `learngate chat --session etfs --user ana --namespace finance`")
        assert terminal.end() == 0
    with Terminal("chat", "--user", "ben", "--namespace", "finance", "--explain", cwd=tmp_path) as terminal:
        assert "1 learning" in terminal.expect("ben ▸ ")
        terminal.type("How do I compare ETFs?")
        assert "recalled 0 turns · 0 memories · 1 learning · " in terminal.expect("(offline stand-in")
        assert "learning 1  1.00  both  25 tokens  Comparing ETFs: When comparing ETFs" in terminal.text
        terminal.expect("ben ▸ ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0


def edit(terminal, title):
    """Answer with an edit of the title."""
    terminal.type("e")
    terminal.expect("title        ▸ Comparing ETFs")
    terminal.type(title)
    terminal.expect("insight      ▸ When comparing ETFs")
    terminal.type("")
    terminal.expect("applies when ▸ comparing ETFs")
    terminal.type("")


def test_an_edit_begins_with_the_proposed_words_and_is_asked_for_again_where_it_cannot_be_stored(tmp_path):
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        terminal.expect("ana ▸ ")
        propose(terminal)
        terminal.type("what?")
        terminal.expect("a, e, r or l: approve, edit, reject, later")
        terminal.expect("▸ ")
        edit(terminal, " and so on" * 20)
        terminal.expect("Error: the title has 214 bytes; at most 200 are taken")
        terminal.expect("▸ ")
        edit(terminal, " by cost")
        terminal.expect("approved in other words by ana · learning 1")
        terminal.expect("ana ▸ ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0
    with memory(tmp_path) as stored:
        (learning,) = stored.learnings.list(namespace="finance")
        assert (learning.title, learning.insight) == ("Comparing ETFs by cost", RULE)
        assert stored.learnings.decision(1).type == "edit"


def test_a_rejection_keeps_its_note_and_is_not_proposed_again(tmp_path):
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        terminal.expect("ana ▸ ")
        propose(terminal)
        terminal.type("r")
        terminal.expect("why ▸ ")
        terminal.type("everybody knows")
        terminal.expect("rejected by ana · “everybody knows”")
        terminal.expect("ana ▸ ")
        terminal.type(RULE)
        assert CHOICES not in terminal.expect("ana ▸ ")
        terminal.interrupt("go on with `learngate chat --session etfs --user ana")
        assert terminal.end() == 0
    with memory(tmp_path) as stored:
        assert stored.learnings.decision(1).note == "everybody knows"


def test_what_is_left_for_later_waits_and_the_session_says_so(tmp_path):
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        terminal.expect("ana ▸ ")
        propose(terminal)
        terminal.interrupt("left for later · `learngate review 1`")
        terminal.expect("ana ▸ ")
        terminal.type("Before buying a fund, check its fees and its spread.")
        terminal.expect(CHOICES)
        terminal.expect("▸ ")
        terminal.type("l")
        terminal.expect("left for later · `learngate review 2`")
        terminal.expect("ana ▸ ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        shown = terminal.expect("ana ▸ ")
        assert "session etfs, 2 turns · ana" in shown
        assert "2 proposals of this session in the inbox: `learngate review 1`" in shown
        terminal.press(CTRL_D)
        assert terminal.end() == 0


def test_a_session_killed_at_the_gate_offers_its_card_again_or_finds_that_it_was_decided(tmp_path):
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        terminal.expect("ana ▸ ")
        propose(terminal)
        terminal.process.kill()
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        shown = terminal.expect(CHOICES)
        assert "session etfs, 1 turn · ana" in shown
        assert "this session waits at the gate:" in shown
        assert RULE in shown
        terminal.expect("▸ ")
        terminal.type("a")
        terminal.expect("approved by ana · learning 1")
        terminal.expect("ana ▸ ")
        terminal.type("Before buying a fund, check its fees and its spread.")
        terminal.expect(CHOICES)
        terminal.process.kill()
    with memory(tmp_path) as stored:
        assert len(stored.learnings.list(namespace="finance")) == 1
        assert len(stored.sessions.window("etfs")) == 2
        stored.learnings.decide(2, Decision.approve(), reviewer="zoe")
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        assert "proposal 2 was approved by zoe · learning 2" in terminal.expect("ana ▸ ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0
    with memory(tmp_path) as stored:
        assert len(stored.learnings.list(namespace="finance")) == 2


def test_a_decision_taken_in_the_inbox_meanwhile_stands(tmp_path):
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        terminal.expect("ana ▸ ")
        propose(terminal)
        with memory(tmp_path) as stored:
            stored.learnings.decide(1, Decision.reject("too broad"), reviewer="zoe")
        terminal.type("a")
        terminal.expect("decided meanwhile: rejected by zoe · “too broad”")
        terminal.expect("ana ▸ ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0
    with memory(tmp_path) as stored:
        assert stored.learnings.list(namespace="finance") == []


def test_a_model_that_is_down_or_hangs_is_one_line_and_the_session_goes_on(tmp_path):
    answers = [HttpError(400, "the moon is wrong"), Slow(100), Slow(100), Text("Here I am."), Text("And again.")]
    with (
        Gemini(answers=answers, structured=[NOTHING, Slow(100)]) as gemini,
        Terminal(*ANA, "--model", GEMINI, cwd=tmp_path, env=gemini.env) as terminal,
    ):
        terminal.expect("ana ▸ ")
        terminal.type("question 1")
        shown = terminal.expect("this turn was recorded").replace("\n", "")
        assert "Error: the model did not answer: " in shown
        assert "the moon is wrong" in shown
        for number, keys in ((2, CTRL_C), (3, CTRL_C + CTRL_C)):
            terminal.expect("ana ▸ ")
            gemini.arrived.clear()
            terminal.type(f"question {number}")
            assert gemini.arrived.wait(60)
            terminal.press(keys)
            terminal.expect("stopped · nothing of this turn was recorded")
        terminal.expect("ana ▸ ")
        terminal.type("question 4")
        assert "recalled 0 turns" in terminal.expect("Here I am.")
        assert not {"question 1", "question 2", "question 3"} & set(gemini.prompts()[-1].split("\n"))
        terminal.expect("ana ▸ ")
        gemini.arrived.clear()
        terminal.type("question 5")
        terminal.expect("And again.")
        assert gemini.arrived.wait(60)
        terminal.press(CTRL_C)
        terminal.expect("stopped · the turn was recorded; its reflection waits for `learngate reflect`")
        terminal.expect("ana ▸ ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0
    with memory(tmp_path) as stored:
        kept = [(turn.question, turn.reflection) for turn in stored.sessions.window("etfs")]
        assert kept == [("question 4", "done"), ("question 5", "pending")]


def test_a_card_shows_what_would_hide_in_it_and_answers_are_wrapped_between_words(tmp_path):
    hidden = "Check the fees\x1b[2K\u202e first\u200b, then\U000e0041 the spread of a fund."
    candidate = {"title": "Fees\x1b]0;x\x07", "insight": hidden, "applies_when": "", "rationale": ""}
    said = "Deliberately long sentences with many words in them, which go on for a while. " * 3
    chinese = "长的中文句子" + "费用比较" * 30
    with (
        Gemini(
            answers=[Text(f"{said.strip()}\n\n- a list\n- {chinese}")],
            structured=[Json({"memories": [], "learning": candidate})],
        ) as gemini,
        Terminal(*ANA, "--model", GEMINI, cwd=tmp_path, env=gemini.env) as terminal,
    ):
        terminal.expect("ana ▸ ")
        terminal.type("a question")
        terminal.expect("recalled")
        answer, _, card = terminal.expect(CHOICES).partition("╭")
        lines = [line for line in answer.split("\n") if line.startswith("      ")]
        assert "      - a list" in lines
        assert max(cell_len(line) for line in lines) <= 80
        assert " ".join(line.strip() for line in lines[:4]).startswith(said.strip()[:200])
        assert chinese in answer.replace("\n      ", "")
        assert r"Fees\x1b]0;x\x07" in card
        assert r"Check the fees\x1b[2K\u202e first\u200b, then\U000e0041 the spread" in card
        terminal.expect("▸ ")
        terminal.type("l")
        terminal.expect("ana ▸ ")
        terminal.press(CTRL_D)
        assert terminal.end() == 0


def test_a_word_after_a_slash_is_no_turn(tmp_path):
    with Terminal(*ANA, cwd=tmp_path) as terminal:
        terminal.expect("ana ▸ ")
        terminal.type("/help")
        terminal.expect("/quit (or Ctrl-D) to end")
        terminal.expect("ana ▸ ")
        terminal.type("/clear it")
        terminal.expect("/clear it is not known here: type a message")
        terminal.expect("ana ▸ ")
        terminal.type("/quit")
        assert terminal.end() == 0
    with memory(tmp_path) as opened:
        assert opened.sessions.list(user_id="ana") == []
