"""Scored replies made of numbers, with effects that are known because they were put in."""

import numpy as np
import pandas as pd

PRICE = 1.2  # points that the made reward models pay for a unit of gold


def scored(
    gold: np.ndarray, score: np.ndarray, judge: np.ndarray | None = None, words: int = 5
) -> pd.DataFrame:
    """A table of scored replies to the prompts q0, q1, ...; other words for each reply."""
    rows = []
    for n, (true, says) in enumerate(zip(gold, score, strict=True)):
        meta = {"gold": float(true), "row": n} | ({} if judge is None else {"judge_score": float(judge[n])})
        text = " ".join(f"{n}{true:.3f}{says:.3f}"[:9] for _ in range(words + n % 3))
        rows.append(
            {"id": n, "prompt": f"q{n}", "prompt_key": f"q{n}", "response": text, "score": float(says)}
        )
        rows[-1] |= {"finished": True, "meta": meta}
    return pd.DataFrame(rows)


def policies(effects: dict[str, list[tuple[float, float]]], prompts: int = 80, seed: int = 0) -> dict:
    """Tables of base, sft, dpo and reference, one for each replicate.

    Args:
        effects: Policy -> for each replicate what it adds to the base's gold, and what its score holds beyond
            `PRICE` points for each unit of gold.
    """
    draw = np.random.default_rng(seed).normal
    start, count = draw(size=prompts), len(next(iter(effects.values())))
    effects = {"base": [(0.0, 0.0)] * count} | effects
    found = {}
    for policy, each in effects.items():
        found[policy] = []
        for gain, bonus in each:
            gold = start + gain + 0.3 * draw(size=prompts)
            score, judge = (PRICE * gold + extra + 0.2 * draw(size=prompts) for extra in (bonus, bonus / 2))
            found[policy].append(scored(gold, score, judge if count > 1 else None))
    return found


def data_pairs(replicates: int, pairs: int = 200, seed: int = 1) -> list[pd.DataFrame]:
    """Scored pairs of the data: margins are `PRICE` points for each unit of gold, and noise."""
    generator = np.random.default_rng(seed)
    gold = generator.normal(1.0, 1.5, pairs)
    tables = []
    for _ in range(replicates):
        margin = PRICE * gold + 0.2 * generator.normal(size=pairs)
        meta = [{"gold_1": g, "gold_2": 0.0, "chosen_index": 1} for g in gold]
        keys = [f"pair {n}" for n in range(pairs)]
        tables.append(pd.DataFrame({"prompt_key": keys, "margin": margin, "meta": meta}))
    return tables
