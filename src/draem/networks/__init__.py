"""The two sub-networks of DRAEM and the model that joins them. Needs torch."""

from __future__ import annotations

import os
import sys

forked = False
"""Whether this process was forked from one that may have used torch's threads."""


def _after_fork() -> None:
    """Do without torch's threads in a forked process: they are gone, and torch would wait."""
    global forked
    forked = True
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


# Here, where every use of torch begins: training and simulation start its threads too.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
