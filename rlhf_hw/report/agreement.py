"""Which sentences of the report hang on the seed: lines that one run prints and most of its like do not.

Conditional blocks follow claims, and a claim near its bound turns with the seed. Run the same profile with
other seeds, then compare what the runs print:

    python -m rlhf_hw.report.agreement runs/nano runs/seed1 runs/seed2 runs/seed3

A sentence of the first run that fewer than half of the others print belongs into the report as a number with
its intervals, not as a verdict.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES, TEXTS
from rlhf_hw.report.shown import run_facts
from rlhf_hw.report.text import kept_lines


def lonely_lines(text: str, runs: Sequence[Mapping[int, str]]) -> list[tuple[int, int, str]]:
    """Lines of a text that the first run keeps and fewer than half of the others.

    Args:
        text: The report's source.
        runs: Number of a line -> line, of what each run keeps.

    Returns:
        For each its number, how many of the others keep it, and the line.
    """
    first, *others = runs
    lines = text.splitlines()
    counts = {number: sum(number in other for other in others) for number in first}
    return [(n, count, lines[n - 1]) for n, count in counts.items() if 2 * count < len(others)]


def main() -> None:
    """The command, see the module's docstring; ends with 1 where there are such lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="+", type=Path, help="folders of runs, first the one whose report it is"
    )
    folders = parser.parse_args().runs
    found: list[str] = []
    by_language = zip(*(run_facts(folder, LANGUAGES) for folder in folders), strict=True)
    for (language, facts), name in product(zip(LANGUAGES, by_language, strict=True), TEXTS):
        source = REPORT / f"{name}.{language}.md"
        text = source.read_text(encoding="utf-8")
        kept = [dict(kept_lines(text, one, source.name)) for one in facts]
        found += [f"{source.name}:{n}: {count} others: {line}" for n, count, line in lonely_lines(text, kept)]
    found.append(f"{len(found)} lines of {folders[0]} that most of {len(folders) - 1} others do not print")
    sys.stdout.write("\n".join(found) + "\n")
    raise SystemExit(len(found) > 1)


if __name__ == "__main__":
    main()
