"""What the server forks children from has ready: everything imported, and the embedder loaded."""

from tests.graph import preload  # noqa: F401
from tests.reliability import suites  # noqa: F401
