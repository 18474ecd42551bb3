"""Texts in the reply explorer, in Chromium: marked where they should be, blurred or absent, never code."""

from explored_rows import BREAKING, SECRET, replies_of
from in_browser import count

WIDE = 1440


def test_texts_are_marked_where_they_repeat_differ_and_count(visit, world, run) -> None:
    page = visit(world, WIDE, at="#case=1-1&marks=r")
    dpo, sft = (page.locator(f'.reply[data-policy="{name}"]') for name in ("dpo", "sft"))
    assert len(dpo.locator(".again").first.inner_text()) > 100
    assert dpo.locator(".end").inner_text().startswith("<|im_end|> score read at this token: ")
    page.locator("#mark-g").check()
    assert (
        "+1" in dpo.locator(".points").all_inner_texts() or "−0.5" in dpo.locator(".points").all_inner_texts()
    )
    gold = replies_of(run, "dpo")["meta"][1]["gold"]
    assert dpo.locator(".sum").inner_text().startswith(f"Gold {gold:.2f}".replace("-", "−"))
    page.locator("#mark-r").uncheck()
    page.locator("#mark-g").uncheck()
    page.locator("#mark-d").check()
    texts = [replies_of(run, name)["response"][1] for name in ("dpo", "sft")]
    own = [set(text.split()) for text in texts]
    for card, mine, other in ((dpo, *own), (sft, *own[::-1])):
        marked = " ".join(card.locator(".only").all_inner_texts()).split()
        assert marked and mine - other <= set(marked) <= mine
    page.locator("#b").select_option("reference")
    page.evaluate("location.hash = 'case=1-2'")
    assert dpo.locator(".end").inner_text().startswith("<|im_end|> cut off; ")


PLAIN = """(box) => {
  const copy = box.cloneNode(true);
  copy.querySelectorAll(".points, .end").forEach((part) => part.remove());
  return copy.textContent;
}"""


def test_no_text_acts_as_code_and_nothing_is_asked_of_the_net(visit, world) -> None:
    page, asked = visit(world, WIDE, at="#marks=rgd"), []
    page.on("dialog", lambda box: asked.append(box.message))
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    shown = page.locator('[data-policy="dpo"] .text').evaluate(PLAIN)
    assert shown.strip() == BREAKING.strip()
    assert page.locator(".reading img, .reading script, .reading b").count() == 0
    page.evaluate("fetch('https://example.org').catch(() => 0)")
    assert asked == [] or all("example.org" in one for one in asked)


def test_texts_of_real_data_are_blurred_until_asked_for(visit, mixed) -> None:
    page = visit(mixed, WIDE, at="#lang=en&case=1-1")
    text = page.locator('.reply[data-policy="dpo"] .text')
    assert (
        "blur" in text.evaluate("box => getComputedStyle(box).filter")
        and text.get_attribute("aria-hidden") == "true"
    )
    assert set(page.locator(".blurred .text").all_inner_texts()[-1]) <= set("x \n")  # not to be found either
    page.locator('.reply[data-policy="dpo"] button').click()
    assert (
        text.evaluate("box => getComputedStyle(box).filter") == "none"
        and text.get_attribute("aria-hidden") is None
    )
    others = page.locator(".reply .text")
    assert "blur" in others.nth(1).evaluate("box => getComputedStyle(box).filter")
    page.locator("#blur").click()
    assert others.nth(1).evaluate("box => getComputedStyle(box).filter") == "none"
    page.evaluate("location.hash = 'lang=en&case=1-0'")
    page.get_by_text("Case 0 ·").wait_for()
    assert page.locator(".reading .hidden").count() == 5 and SECRET not in page.content()
    page.locator("#source").select_option("harmless-base")
    assert count(page) == 15
    assert "blur" in visit(mixed, WIDE, at=page.evaluate("location.hash").replace("1-0", "1-1")).locator(
        ".reply .text"
    ).first.evaluate("box => getComputedStyle(box).filter")
