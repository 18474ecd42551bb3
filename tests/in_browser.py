"""What the tests of the web pages in a browser look for."""

import re

import pytest


def serious_findings(page) -> list[tuple[str, str]]:
    """What axe-core holds to be serious or critical: rule, and the first element that breaks it.

    Parts of formulas are pandoc's MathML, and so many that looking at each would take half of the time.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `test`").Axe()
    found = axe.run(page, {"exclude": [["math *"]]}).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def count(page) -> int:
    """How many cases the reply explorer's list has."""
    return int(re.search(r"\d+", page.locator("#count").inner_text())[0])
