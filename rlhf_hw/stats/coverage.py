"""How often do the intervals of this room hold the truth? Simulations behind `docs/statistics.md`.

Each method meets data whose truth is known, many times over: n = 10, 20, 50, 200 prompts with one row each
or with four rows that resemble each other, rates of 0.5, 0.9 and 0.97. A 95% interval should hold the truth
in 93 to 97 of 100 cases. `make coverage` writes the table; the seed is fixed: it comes out the same again.

    python -m rlhf_hw.stats.coverage docs/statistics.md
"""

import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy import special, stats
from tqdm import tqdm

from rlhf_hw.errors import InputError
from rlhf_hw.files import replacing
from rlhf_hw.stats.ceiling import share_of_best
from rlhf_hw.stats.intervals import mean_interval, rate_interval
from rlhf_hw.stats.length_control import length_controlled_win_rate
from rlhf_hw.stats.pairs import compare_reward_models
from rlhf_hw.stats.replicates import replicated_mean

PROMPTS, RATES, EACH = (10, 20, 50, 200), (0.5, 0.9, 0.97), (1, 4)
ALIKE = 0.3  # correlation between two rows of a prompt
SAMPLES, SLOW_SAMPLES = 2000, 1000
START, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
Generator = np.random.Generator
Trial = Callable[[Generator, int, int, float], bool]  # generator, prompts, rows a prompt, rate -> covered


def clustered_outcomes(
    generator: Generator, prompts: int, rate: float, each: int = 4, alike: float = ALIKE
) -> tuple[np.ndarray, np.ndarray]:
    """Right (1) or wrong (0) on `each` pairs of every prompt, whose chance differs from prompt to prompt.

    The chances are drawn from a beta distribution with mean `rate` that gives two pairs of a prompt the
    correlation `alike`.

    Returns:
        Outcomes and prompt numbers, shapes (prompts * each,).
    """
    spread = (1 - alike) / alike
    chance = generator.beta(rate * spread, (1 - rate) * spread, size=(prompts, 1))
    outcomes = (generator.random((prompts, each)) < chance).astype(float)
    return outcomes.ravel(), np.repeat(np.arange(prompts), each)


def rate_covers(generator: Generator, prompts: int, each: int, rate: float) -> bool:
    """Accuracy, win rate: `rate_interval`."""
    found = rate_interval(*clustered_outcomes(generator, prompts, rate, each))
    return found.low <= rate <= found.high


def mean_covers(generator: Generator, prompts: int, each: int, rate: float) -> bool:
    """Mean of a score: `mean_interval`, on a normal level of each prompt plus normal noise."""
    level = np.sqrt(ALIKE) * generator.normal(size=(prompts, 1))
    values = level + np.sqrt(1 - ALIKE) * generator.normal(size=(prompts, each))
    found = mean_interval(values.ravel(), np.repeat(np.arange(prompts), each))
    return found.low <= 0 <= found.high


def trainings_cover(generator: Generator, prompts: int, each: int, rate: float) -> bool:
    """Three trainings with levels of their own on the same prompts: `replicated_mean`."""
    values = 0.2 * generator.normal(size=(3, 1)) + generator.normal(size=(3, prompts * each))
    found = replicated_mean(values).trainings
    return found.low <= 0 <= found.high


def controlled_wins(
    generator: Generator, prompts: int, each: int, rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wins at a true rate at equal length that length pulls at, differences of length, and prompt numbers."""
    gap = generator.normal(size=prompts * each)
    common = np.repeat(generator.normal(size=prompts), each)
    draw = special.ndtr(np.sqrt(0.5) * common + np.sqrt(0.5) * generator.normal(size=gap.size))
    chance = special.expit(special.logit(rate) + np.tanh(gap / gap.std()))
    return (draw < chance).astype(float), gap, np.repeat(np.arange(prompts), each)


def controlled_covers(generator: Generator, prompts: int, each: int, rate: float) -> bool:
    """Length-controlled win rate, whose wins of a prompt agree through a common normal part."""
    wins, gap, codes = controlled_wins(generator, prompts, each, rate)
    found = length_controlled_win_rate(wins, np.full(wins.size, 0.5), gap, np.zeros(wins.size), codes)
    low, high = (found[f"win_rate_length_controlled_{end}"] for end in ("low", "high"))
    return low <= rate <= high


def mcnemar_is_silent(generator: Generator, prompts: int, each: int, rate: float) -> bool:
    """Two equally good models that each judge all pairs of a prompt alike more often than chance."""
    models = [clustered_outcomes(generator, prompts, rate, each) for _ in range(2)]
    margins = [2 * outcomes - 1 for outcomes, _ in models]
    return compare_reward_models(*margins, models[0][1])["p_value"] > 0.05


def difference_covers(generator: Generator, prompts: int, each: int, rate: float) -> bool:
    """Accuracy difference of the same two models."""
    models = [clustered_outcomes(generator, prompts, rate, each) for _ in range(2)]
    found = compare_reward_models(*(2 * outcomes - 1 for outcomes, _ in models), models[0][1])
    return found["accuracy_difference_low"] <= 0 <= found["accuracy_difference_high"]


def share_covers(generator: Generator, prompts: int, each: int, rate: float) -> bool:
    """Share of best: the judge is right on 0.93 of the labels, the model sides with him on `rate`."""
    best = (generator.random(prompts * each) < 0.93).astype(float)
    agrees, codes = clustered_outcomes(generator, prompts, rate, each)
    if best.mean() <= 0.5:
        return True  # refused, so nothing wrong is said
    found = share_of_best(np.where(agrees > 0, best, 1 - best), best, codes)
    low, high = (found.get(f"share_of_best_{end}") for end in ("low", "high"))
    return low is None or low <= 2 * rate - 1 <= high


METHODS: dict[str, tuple[Trial, tuple[float, ...], int]] = {
    "rate": (rate_covers, RATES, SAMPLES),
    "length-controlled rate": (controlled_covers, RATES, SLOW_SAMPLES),
    "accuracy difference": (difference_covers, RATES, SAMPLES),
    "McNemar, 1 - false alarms": (mcnemar_is_silent, RATES, SAMPLES),
    "share of best": (share_covers, RATES, SAMPLES),
    "mean": (mean_covers, (0.0,), SAMPLES),
    "mean over three trainings": (trainings_cover, (0.0,), SAMPLES),
}


def coverage(trial: Trial, prompts: int, each: int, rate: float, samples: int, seed: int = 0) -> float:
    """Share of so many samples in which an interval held the truth."""
    generator = np.random.default_rng([seed, prompts, each, round(1000 * rate)])
    return sum(trial(generator, prompts, each, rate) for _ in range(samples)) / samples


def least_possible(trials: int, rate: float, wanted: float = 0.93) -> float:
    """The smallest coverage of `wanted` or more that any interval can have at one rate, for independent rows.

    Whatever the method, it covers at some numbers of successes and not at others, so its coverage is a sum of
    their probabilities. Sensible intervals cover at neighbouring numbers, the most probable ones among them,
    and treat alike what is equally probable (at 1/2: as many successes as failures).
    """
    chances = stats.binom.pmf(np.arange(trials + 1), trials, rate)
    chances, times = np.unique(np.round(chances, 12), return_counts=True)
    reached = np.cumsum((chances * times)[::-1])
    return float(reached[reached >= wanted][0])


def coverage_table(methods: Iterable[str] = METHODS) -> list[str]:
    """The coverages as lines of a Markdown table: a row a method and rate, a column a number of prompts."""
    heads = [f"{n} prompts{'' if each == 1 else f' x {each}'}" for each in EACH for n in PROMPTS]
    lines = [f"| method | rate | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for rate in RATES:
        known = [f"{least_possible(n, rate):.3f}" if each == 1 else "" for each in EACH for n in PROMPTS]
        lines.append(f"| *(least possible for a rate)* | {rate:g} | {' | '.join(known)} |")
    cells = [(name, rate) for name in methods for rate in METHODS[name][1]]
    for name, rate in tqdm(cells, desc="coverage"):
        trial, _, samples = METHODS[name]
        found = [coverage(trial, n, each, rate, samples) for each in EACH for n in PROMPTS]
        label = f"{rate:g}" if len(METHODS[name][1]) > 1 else ""
        lines.append(f"| {name} | {label} | {' | '.join(f'{share:.3f}' for share in found)} |")
    return lines


def write_coverage(path: Path) -> None:
    """Puts the table between the marks of a Markdown file.

    Raises:
        InputError: the file lacks the marks.
    """
    text = path.read_text(encoding="utf-8")
    if START not in text or END not in text:
        raise InputError(
            f"{path} lacks the lines {START!r} and {END!r}: add them where the table should stand"
        )
    head, rest = text.split(START)
    lines = "\n".join(coverage_table())
    with replacing(path) as file:
        file.write(f"{head}{START}\n{lines}\n{END}{rest.split(END)[1]}")
    logging.getLogger(__name__).info("wrote the table of coverages into %s", path)


if __name__ == "__main__":
    write_coverage(Path(sys.argv[1]))
