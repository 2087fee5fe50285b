"""A name becomes a model, or an error that says how to mend it."""

import pytest
from langchain_core.language_models import FakeListChatModel

from learngate.graph import build_graph
from learngate.graph.models import model_name, reflector_of, resolve_model, with_tools
from learngate.graph.settings import DEFAULT_MODEL, chosen_model
from learngate.nodes.tools import MEMORY_TOOLS
from learngate.stores import ConfigurationError, open_memory


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("openai:gpt-5.2", "pip install langchain-openai"),
        ("anthropic:claude-sonnet-4-5", "pip install langchain-anthropic"),
        ("bedrock:some-model", "pip install langchain-aws"),
        ("google_genai:gemini-3-flash-preview", "GOOGLE_API_KEY"),
        ("google_genai:gemini-3-flash-preview", "offline"),
        ("nonsense", "provider:model"),
        ("nobody:knows", "provider:model"),
        ("", "provider:model"),
        (None, "provider:model"),
        (7, "provider:model"),
    ],
)
def test_what_cannot_work_is_refused_with_its_mending(name, says):
    with open_memory("sqlite://") as memory, pytest.raises(ConfigurationError, match=says):
        build_graph(memory, model=name)


def test_gemini_is_made_with_its_key(monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "test")
    made = resolve_model(DEFAULT_MODEL)
    assert type(made).__name__ == "ChatGoogleGenerativeAI"
    assert model_name(made) == "gemini-3-flash-preview"


def test_a_provider_that_misses_its_key_is_one_clear_error(monkeypatch):
    class MissingKeyError(Exception):
        __module__ = "provider.errors"

    def refuse(name):
        raise MissingKeyError("set PROVIDER_KEY")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", refuse)
    with pytest.raises(ConfigurationError, match="set PROVIDER_KEY"):
        resolve_model("provider:model")


def test_a_bug_is_no_configuration_error(monkeypatch):
    def refuse(name):
        raise ZeroDivisionError

    monkeypatch.setattr("langchain.chat_models.init_chat_model", refuse)
    with pytest.raises(ZeroDivisionError):
        resolve_model("provider:model")


def test_names_without_a_client():
    assert resolve_model("offline")._llm_type == "offline"
    assert resolve_model("scripted")._llm_type == "scripted"
    assert model_name(resolve_model("offline")) == "offline"


def test_a_model_without_tools_or_structure_is_refused_where_they_are_needed():
    plain = FakeListChatModel(responses=["hello"])
    with pytest.raises(ConfigurationError, match="takes no tools"):
        with_tools(plain, list(MEMORY_TOOLS))
    with pytest.raises(ConfigurationError, match='reflection="off"'):
        reflector_of(plain)
    with open_memory("sqlite://") as memory:
        graph = build_graph(memory, model=plain, reflection="off")
        config = {"configurable": {"thread_id": "s"}}
        assert graph.invoke({"messages": [("user", "hi")]}, config)["messages"][-1].text == "hello"


def test_the_stand_in_is_never_chosen_silently(monkeypatch):
    with pytest.raises(ConfigurationError, match="GOOGLE_API_KEY"):
        chosen_model()
    monkeypatch.setenv("GOOGLE_API_KEY", "test")
    assert chosen_model() == DEFAULT_MODEL
    monkeypatch.setenv("LEARNGATE_MODEL", "openai:gpt-5.2")
    assert chosen_model() == "openai:gpt-5.2"
    assert chosen_model("offline") == "offline"
