"""What the tests of the web pages in a browser look for."""

import re

import pytest

WIDE = 1440  # pixels of a desk's screen
# what lies beside the screen, as code
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((part) => {
  const box = part.getBoundingClientRect();
  const apart = part.closest(".skip, .scroll, option");
  return box.width && !apart && (box.right > innerWidth + 1 || box.left < -1);
}).map((part) => part.outerHTML.slice(0, 100))"""


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


def case_ids(page) -> list[str]:
    """The cases of the reply explorer's list, in its order."""
    return page.locator(".case .id").all_text_contents()


def drag(page, canvas, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over a chart from one place to another, both in shares of its width and height."""
    box = canvas.bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=3)
    page.mouse.up()
