"""Turn the results of all jobs into tables of text."""

from collections.abc import Mapping, Sequence
from statistics import median

RATES = {"pairs/s": "step_pairs_per_second", "pairs/s, all in": "total_pairs_per_second"}
MEMORY = "memory_gib"
# workload, task, system, measured number, ours over theirs at the least (of memory: at the most)
GOALS = (
    ("7M", "rm", "trl", "pairs/s", 8),
    ("7M", "rm", "trl-best", "pairs/s", 4),
    ("7M", "dpo", "trl", "pairs/s", 18),
    ("7M", "dpo", "trl-best", "pairs/s", 10),
    ("7M", "dpo", "trl", "pairs/s, all in", 10),
    ("7M", "dpo", "trl-best", "pairs/s, all in", 9),
    ("7M", "dpo", "trl", "memory", 0.5),
    ("7M", "dpo", "trl-best", "memory", 0.5),
    ("135M", "rm", "trl-best", "pairs/s", 2),
    ("135M", "rm", "trl-best", "memory", 0.5),
    ("135M", "dpo", "trl-best", "pairs/s", 3),
    ("135M", "dpo", "trl-best", "memory", 0.5),
)


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table, aligned so that it also reads well as plain text."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}

    def line(cells: dict[str, str]) -> str:
        return "| " + " | ".join(cells[name].ljust(widths[name]) for name in names) + " |"

    rule = "|" + "|".join("-" * (widths[name] + 2) for name in names) + "|"
    return "\n".join([line({n: n for n in names}), rule, *map(line, rows)])


def middle(results: list[dict], key: str) -> float:
    """Median over the rounds."""
    return median(result[key] for result in results)


def ratios(ours: Sequence[dict], theirs: Sequence[dict], key: str) -> list[float]:
    """Ours over theirs, round by round."""
    return [mine[key] / other[key] for mine, other in zip(ours, theirs, strict=False)]


def with_range(each: Sequence[float]) -> str:
    """The median; of several also the least and the largest."""
    spread = f" ({min(each):.2f} to {max(each):.2f})" if len(each) > 1 else ""
    return f"{median(each):.2f}{spread}"


def goal_rows(name: str, results: Mapping[str, Sequence[dict]]) -> list[dict[str, str]]:
    """The goals of a workload, each beside what was measured.

    Args:
        name: Of the workload.
        results: By "task/system" the list of results, one a round.
    """
    rows = []
    for workload, task, system, what, goal in GOALS:
        ours, theirs = (results.get(f"{task}/{one}") for one in ("ours", system))
        if workload == name and ours and theirs:
            found = ratios(ours, theirs, RATES.get(what, MEMORY))
            reached = median(found) <= goal if what == "memory" else median(found) >= goal
            row = {"task": task, "against": system, "ratio of": what, "goal": f"{goal}"}
            rows.append(row | {"measured": with_range(found), "reached": "yes" if reached else "no"})
    return rows


def training_rows(results: dict[str, dict], peak: float) -> list[dict[str, str]]:
    """One row for each task and system; ratios are ours over theirs, round by round.

    Args:
        results: By "task/system" the list of results, one a round.
        peak: The machine's best rate of matrix products in this dtype, FLOP/s.
    """
    rows = []
    for name, rounds in results.items():
        task, system = name.split("/")
        ours = results[f"{task}/ours"]
        total = middle(rounds, RATES["pairs/s, all in"])
        in_steps = middle(rounds, RATES["pairs/s"])
        memory = middle(rounds, MEMORY)
        rows.append(
            {
                "task": task,
                "system": system,
                "pairs/s": f"{in_steps:.3g}",
                "ours / this": with_range(ratios(ours, rounds, RATES["pairs/s"])),
                "processor s/pair": f"{middle(rounds, 'processor_seconds_per_pair'):.3g}",
                "pairs/s, all in": f"{total:.3g}",
                "ours / this, all in": with_range(ratios(ours, rounds, RATES["pairs/s, all in"])),
                "set-up s": f"{middle(rounds, 'setup_seconds'):.1f}",
                "reference s": f"{middle(rounds, 'reference_seconds'):.1f}",
                "memory GiB": f"{memory:.2f}",
                "ours / this, memory": with_range(ratios(ours, rounds, MEMORY)),
                "loss first, last": f"{rounds[0]['losses'][0]:.4f}, {rounds[0]['losses'][-1]:.4f}",
                "utilisation": f"{middle(rounds, 'useful_flops_per_second') / peak:.1%}",
            }
        )
    return rows


def inference_rows(results: dict[str, list[dict]]) -> list[dict[str, str]]:
    """Scoring and generation, ours beside the plain loop."""
    rows = []
    for name, rounds in results.items():
        task, system = name.split("/")
        count = len(rounds[0]["scores" if task == "score" else "tokens"])
        rate, ours = (count / middle(r, "seconds") for r in (rounds, results[f"{task}/ours"]))
        row = {"task": task, "system": system, "a second": f"{rate:.3g}", "ours / this": f"{ours / rate:.2f}"}
        row["memory GiB"] = f"{middle(rounds, 'memory_gib'):.2f}"
        if task == "score":
            theirs = results["score/ours"][0]["scores"]
            pairs = zip(sum(rounds[0]["scores"], []), sum(theirs, []), strict=True)
            gap = max(abs(a - b) for a, b in pairs)
            row["what it did"] = f"{count} pairs, scores within {gap:.1e} of ours"
        else:
            lengths = rounds[0]["tokens"]
            row["what it did"] = (
                f"{count} replies of {min(lengths)} to {max(lengths)} tokens, mean {sum(lengths) / count:.0f}"
            )
        rows.append(row)
    return rows


def exactness_rows(results: dict[str, dict]) -> list[dict[str, str]]:
    """Losses of the same pairs in the same order, step by step."""
    rows = []
    for name in sorted({name.rpartition("/")[0] for name in results}):
        ours, theirs = (results[f"{name}/{system}"]["losses"] for system in ("ours", "trl"))
        gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        task, dtype = name.split("/")
        rows += [
            {
                "task": task,
                "dtype": dtype,
                "step": str(step + 1),
                "ours": f"{ours[step]:.7f}",
                "trl": f"{theirs[step]:.7f}",
                "difference": f"{gaps[step]:.1e}",
            }
            for step in range(len(ours))
        ]
    return rows


def profile_rows(results: dict[str, dict], peak: float) -> list[dict[str, str]]:
    """Shares of our training steps by kind of operation.

    Args:
        results: By task what `profiling.profile_steps` returns.
        peak: The machine's best rate of matrix products in this dtype, FLOP/s.
    """
    rows = []
    for task, found in results.items():
        for kind, one in found["kinds"].items():
            rate = one["flops_per_second"]
            rows.append(
                {
                    "task": task,
                    "kind": kind,
                    "share": f"{one['share']:.0%}",
                    "ms a pair": f"{1000 * one['share'] * found['seconds'] / found['pairs']:.2f}",
                    "rate, of square products": f"{rate / peak:.0%}" if rate else "",
                }
            )
    return rows


def scaling_tables(result: dict[str, list[dict]]) -> str:
    """The scaling page: one table for each of its four questions."""
    titles = {
        "length": "Forward and backward pass against the tokens of a row, ms a pair",
        "batch": "... against batch size (rows of one length)",
        "share": "... against the prompt's share of a row, and the same pairs without sharing the prompt",
        "pairs": "Preparation on the processor against the number of pairs",
    }
    parts = []
    for key, title in titles.items():
        rows = [{name: f"{value:.4g}" for name, value in row.items()} for row in result[key]]
        parts.append(f"{title}\n\n{table(rows)}")
    return "\n\n".join(parts)
