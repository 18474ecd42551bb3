"""What a person sees while notebooks run: a bar of cells, and below it the running cell's own last line.

Where standard error is no terminal (a log file, continuous integration) there is no bar; instead a line a
minute says that a long cell is alive.
"""

import logging
import re
import sys
import time
from typing import Any, Self

from tqdm import tqdm

logger = logging.getLogger("rlhf_hw")
HEARTBEAT_SECONDS = 60


class LiveLine:
    """A text stream for the kernel's standard error that shows only its last line.

    Args:
        label: Name of the notebook.
    """

    def __init__(self, label: str):
        self.label = label
        self.bar_options: dict[str, Any] = {
            "bar_format": label + "  cell {n_fmt} of {total_fmt}  [{elapsed}]",
            "leave": False,
            "disable": None,  # off where standard error is no terminal
            "file": sys.stderr,
            "position": 0,
        }
        self._said = time.monotonic()
        self._line: tqdm | None = None

    def __enter__(self) -> Self:
        self._line = tqdm(
            bar_format="  {desc}", position=1, leave=False, disable=None, file=sys.stderr, dynamic_ncols=True
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._line.close()

    def write(self, text: str) -> int:
        """Show the last line of `text`, as often as a reader can use it."""
        lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
        if not lines:
            return len(text)
        if not self._line.disable:
            self._line.set_description_str(lines[-1][: self._line.ncols or 100])
        elif time.monotonic() - self._said > HEARTBEAT_SECONDS:
            self._said = time.monotonic()
            logger.info("%s  %s", self.label, lines[-1])
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
