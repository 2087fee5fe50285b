"""Where the `learngate` command begins: what takes time to import is imported where Ctrl-C is heard."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command; Ctrl-C while it is still being imported ends it as quietly as later on."""
    try:
        from learngate.app.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.stderr.flush()
        # As `status.STOPPED`; at once, because half an import may not end well.
        os._exit(130)
    main()
