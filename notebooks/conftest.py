"""One option: `--write` writes what the notebooks put out into them, as it is committed."""

import os

import pytest

UNSET = ("LEARNGATE_DB", "LEARNGATE_MODEL", "GOOGLE_API_KEY", "GEMINI_API_KEY")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write", action="store_true", help="write the notebooks' outputs into them")


def pytest_configure() -> None:
    # Before anything is imported, and for the kernels.
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ["JUPYTER_PLATFORM_DIRS"] = "1"
