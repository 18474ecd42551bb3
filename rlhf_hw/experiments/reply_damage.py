"""Damage of the replies of one table, as an experiment reports it: findings, named rows, numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rlhf_hw.experiments.result import prefixed
from rlhf_hw.stats.damage import Finding, Replies, damaged_rows, find_damage


def table_damage(mine: pd.DataFrame, *others: pd.DataFrame) -> list[Finding]:
    """`stats.damage.find_damage` of tables with `response`, `prompt` and perhaps `finished`."""
    return find_damage(*(_replies(table) for table in (mine, *others)))


def _replies(table: pd.DataFrame) -> Replies:
    finished = table["finished"].tolist() if "finished" in table else None
    return Replies(table["response"].tolist(), table["prompt"].tolist(), finished)


def named_rows(findings: Sequence[Finding], **where: str | int) -> list[dict]:
    """What is named as rows of a table, after the words that say where.

    Returns:
        Rows of `where`, kind, what, count, share, lead (how far that is above the other file, as text with
        its interval), damage (whether it is no habit), and rows (three row numbers, as text).
    """
    return [
        {
            **where,
            "kind": one.kind,
            "what": one.what,
            "count": one.count,
            "share": one.share.value,
            "lead": format(one.lead, "+.1%") if one.lead else None,
            "damage": one.damage,
            "rows": row_numbers(one),
        }
        for one in findings
        if one.named
    ]


def row_numbers(finding: Finding) -> str:
    """The numbers of the first rows that have a sign, as text."""
    return ", ".join(map(str, finding.examples))


def strange_openings(findings: Sequence[Finding]) -> list[Finding]:
    """The openings that are damage, the most frequent first."""
    return [one for one in findings if one.kind == "opening" and one.damage]


def sound_rows(findings: Mapping[str, Sequence[Finding]], count: int) -> np.ndarray:
    """Whether neither model's reply to each of so many prompts is damaged."""
    return ~np.any([damaged_rows(found, count) for found in findings.values()], axis=0)


def damage_metrics(findings: Sequence[Finding]) -> dict[str, float | str]:
    """The signs of one model's replies in numbers.

    Returns:
        share (of damaged replies), named (how many signs are); for each kind, and for the strangest opening,
        `<kind>` (share, with interval), `<kind>_count`, `<kind>_elsewhere` and `<kind>_lead` (share in the
        other file, and how far this one is above it; +_low, _high), `<kind>_named` (1 where it is named) and
        then `<kind>_rows` (three row numbers, as text); of that opening also `opening_text` and
        `opening_forms`; of every opening that is named `openings.<n>`: text, share, count, lead, rows, and
        damage (1 where it is no habit), damage first.
    """
    strange = strange_openings(findings)
    found: dict[str, float | str] = {
        "share": float(damaged_rows(findings, findings[-1].rows.size).mean()),
        "named": sum(sign.named for sign in findings),
    }
    for sign in [*strange[:1], *(sign for sign in findings if sign.kind != "opening")]:
        found |= sign.share.named(sign.kind) | {f"{sign.kind}_count": sign.count}
        for name, beside in (("elsewhere", sign.other), ("lead", sign.lead)):
            found |= beside.named(f"{sign.kind}_{name}") if beside else {}
        found |= {f"{sign.kind}_named": 1, f"{sign.kind}_rows": row_numbers(sign)} if sign.named else {}
    if strange:
        forms = ", ".join(f"{form} {count}" for form, count in strange[0].forms)
        found |= {"opening_text": strange[0].what} | ({"opening_forms": forms} if forms else {})
    openings = [sign for sign in findings if sign.kind == "opening" and sign.named]
    for number, sign in enumerate(sorted(openings, key=lambda one: not one.damage), start=1):
        numbers = {"text": sign.what, "count": sign.count, "rows": row_numbers(sign)}
        numbers |= (
            sign.share.named("share") | sign.lead.named("lead") | ({"damage": 1} if sign.damage else {})
        )
        found |= prefixed(f"openings.{number}", numbers)
    return found
