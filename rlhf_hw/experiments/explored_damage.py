"""What `stats.damage` finds wrong with the replies of each policy, reply by reply, for the reply explorer."""

from collections.abc import Mapping

import pandas as pd

from rlhf_hw.stats.damage import Replies, find_damage

REFERENCE = "reference"  # written by the data's authors: others are held against it


def damage_by_reply(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[list[str]]]:
    """Policy -> for each of its replies the kinds of damage that it has.

    Args:
        tables: Policy -> replies to the same prompts. Those of the policies are held against one another and
            against the references; the references are not judged. Rows without a reply have none.
    """
    read = {policy: _replies(table) for policy, table in tables.items()}
    found: dict[str, list[list[str]]] = {}
    for policy, (rows, mine) in read.items():
        names: list[list[str]] = [[] for _ in range(len(tables[policy]))]
        if policy != REFERENCE and rows:
            findings = find_damage(mine, *(other for name, (_, other) in read.items() if name != policy))
            for finding in (finding for finding in findings if finding.damage):
                for place, has in zip(rows, finding.rows, strict=True):
                    if has and finding.kind not in names[place]:
                        names[place].append(finding.kind)
        found[policy] = names
    return found


def _replies(table: pd.DataFrame) -> tuple[list[int], Replies]:
    """The rows that have a reply, and these replies."""
    rows = [n for n, text in enumerate(table["response"]) if isinstance(text, str)]
    here = table.iloc[rows]
    finished = here["finished"].tolist() if "finished" in here else None
    return rows, Replies(here["response"].tolist(), here["prompt"].tolist(), finished)
