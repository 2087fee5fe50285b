"""What the server forks children from has ready: everything imported, and the embedder loaded."""

from tests.graph import test_killed_anywhere  # noqa: F401
from tests.graph.support import EMBEDDER

EMBEDDER.embed_query("ready")
