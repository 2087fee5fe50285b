"""The options that are the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

DEFAULT = "default"
"""The namespace where none is named."""
LARGEST = 2**63 - 1
"""As `learngate.stores.guard` has it, whose import would take a second before any help is shown."""

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="LEARNGATE_DB",
        metavar="URL|PATH",
        help="The database: a path, or a URL such as sqlite:///learngate.db (the default).",
        show_default=False,
    ),
]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME", help="Whose memory and sessions; there is no default user."),
]
RequiredUser = Annotated[
    str, typer.Option("--user", metavar="NAME", help="Whose memories; there is no default user.")
]
Session = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="The session to continue, or to begin under this id.")
]
Namespace = Annotated[str, typer.Option("--namespace", metavar="PATH", help="Whom the learnings serve.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="LEARNGATE_MODEL",
        metavar="NAME",
        help="The chat model, such as google_genai:gemini-3-flash-preview, ollama:llama3.2 or offline.",
        show_default=False,
    ),
]
Embedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        envvar="LEARNGATE_EMBEDDER",
        metavar="NAME",
        help="What compares texts by meaning: wordllama (the default) or minilm.",
        show_default=False,
    ),
]
Reviewer = Annotated[
    str | None,
    typer.Option(
        "--reviewer",
        metavar="NAME",
        help="Under whose name it is decided: --user's, else your login name.",
        show_default=False,
    ),
]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why, kept with the decision.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="How many at the most.")]
Row = Annotated[int, typer.Argument(metavar="ID", min=1, max=LARGEST, show_default=False)]
