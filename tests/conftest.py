"""What every test stands on: no key, no database and no proxy of the machine it runs on."""

import os

import pytest
from hypothesis import HealthCheck, settings

UNSET = (
    "LEARNGATE_DB",
    "LEARNGATE_MODEL",
    "LEARNGATE_EMBEDDER",
    "LEARNGATE_AUDIT_KEY",
    "LEARNGATE_AUDIT_HEAD",
    "GOOGLE_API_KEY",
    "GEMINI_API_KEY",
)

LONG = {
    "test_audit_laws",
    "test_chat_on_a_terminal",
    "test_crash",
    "test_killed_anywhere",
    "test_reliability",
    "test_repair",
    "test_standing",
    "test_studio",
    "test_studio_stopped",
    "test_users",
    "test_vector_store",
}
"""Files whose tests take half a minute and more together."""

# Derandomised, so that a run is green or red and not sometimes either; `--hypothesis-profile=explore` looks
# for new examples.
settings.register_profile(
    "learngate",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "explore", settings.get_profile("learngate"), max_examples=500, derandomize=False, print_blob=True
)
# `make soak`: as much as there is time for, never the same twice; what fails says how to try it again.
settings.register_profile("soak", settings.get_profile("explore"), max_examples=200)
settings.load_profile("learngate")

# The contracts of the stores are methods of classes that no test file holds itself.
pytest.register_assert_rewrite("tests.stores.conformance")


def pytest_configure() -> None:
    # Before anything is imported, and for the processes that tests start, too.
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A file is one process's: one that takes long, begun as the last, would keep the others waiting.
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
