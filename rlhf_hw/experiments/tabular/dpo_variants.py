"""What the exact worlds show about DPO and its variants, over many worlds, in one result.

    study = ExactStudy(worlds=20)
    found = dpo_variants([measure_world(study, seed) for seed in study.seeds()], study)
    found.metrics["variants.everything.difference_most"], found.claims["variants_covered_equal"]

A world is one draw of reference, rewards and labels; every mean carries an interval over worlds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.tabular.displacement import ANCHORED, DisplacementWorld, measure_displacement
from rlhf_hw.experiments.tabular.exact_expectations import tabular_claims
from rlhf_hw.experiments.tabular.label_noise import NoiseFound, NoiseWorld, measure_noise
from rlhf_hw.experiments.tabular.pair_coverage import (
    COVERAGES,
    CoverageWorld,
    measure_class,
    measure_coverage,
)
from rlhf_hw.experiments.tabular.rounds import SOURCES_OF_PAIRS, RoundsWorld, measure_rounds
from rlhf_hw.stats.intervals import mean_interval

CLASSES = ("small", "whole")


@dataclass(frozen=True)
class ExactStudy:
    """Sizes of everything.

    Attributes:
        coverage, rounds, displacement, noise: The four worlds.
        worlds: Draws of each of the first three.
        seed: Of the draws.
    """

    coverage: CoverageWorld = field(default_factory=CoverageWorld)
    rounds: RoundsWorld = field(default_factory=RoundsWorld)
    displacement: DisplacementWorld = field(default_factory=DisplacementWorld)
    noise: NoiseWorld = field(default_factory=NoiseWorld)
    worlds: int = 20
    seed: int = 0

    def seeds(self) -> list[int]:
        """One for each world."""
        return [1000 * self.seed + k for k in range(self.worlds)]


def measure_world(study: ExactStudy, seed: int) -> dict[str, float]:
    """One draw of coverage, class and rounds."""
    found = measure_coverage(study.coverage, seed) | measure_class(study.coverage, seed)
    return found | prefixed("rounds", measure_rounds(study.rounds, seed))


@dataclass(frozen=True, kw_only=True)
class DPOVariants(Result):
    """What the exact worlds showed.

    Attributes:
        distances: Coverage -> labels -> `distance` to RLHF's policy, with its interval. reached: "small" and
        "whole" -> shares of the best policy's gain that DPO reached, shape (worlds, mixes). regrets: Where
        pairs come from -> labels -> `regret` where the best policy is far, with its interval. changes:
        Similarity -> `change` of the chosen reply's log-probability, with its interval. anchored: Loss ->
        `change` at the largest similarity, with its interval. noise: What label noise does.
    """

    distances: dict[str, dict[int, dict[str, float]]]
    reached: dict[str, np.ndarray]
    regrets: dict[str, dict[int, dict[str, float]]]
    changes: dict[float, dict[str, float]]
    anchored: dict[str, dict[str, float]]
    noise: NoiseFound


def dpo_variants(worlds: Sequence[Mapping[str, float]], study: ExactStudy) -> DPOVariants:
    """All worlds together, with the two that need no drawing of labels.

    Args:
        worlds: What `measure_world` found, one for each of the study's seeds.
        study: Sizes.

    Returns:
        Metrics under `variants.`: means of what the worlds measured, with `_most` the largest of all worlds;
        `rounds.*`, `noise.*` and `displacement.*`. And the claims of `tabular_claims`.
    """
    columns = {name: np.array([world[name] for world in worlds]) for name in worlds[0]}
    moved = measure_displacement(study.displacement, study.seeds())
    noise = measure_noise(study.noise)
    numbers: dict[str, float] = {"worlds": len(worlds), "replies": study.coverage.replies}
    numbers |= coverage_numbers(columns, study.coverage) | rounds_numbers(columns, study.rounds)
    numbers |= prefixed("displacement", displacement_numbers(moved, study.displacement))
    numbers |= prefixed("noise", noise_numbers(noise, study.noise))
    most = round(100 * max(study.displacement.anchored))
    mixes, steps = range(study.coverage.mixes), study.rounds.labels
    return DPOVariants(
        metrics=prefixed("variants", numbers),
        claims=tabular_claims(numbers),
        distances={
            coverage: {
                n: _over(columns[f"{coverage}.distance.{n}"], "distance") for n in study.coverage.labels
            }
            for coverage in COVERAGES
        },
        reached={kind: np.array([columns[f"{kind}.reached.{m}"] for m in mixes]).T for kind in CLASSES},
        regrets={
            source: {n: _over(columns[f"rounds.far.{source}.regret.{n}"], "regret") for n in steps}
            for source in SOURCES_OF_PAIRS
        },
        changes={
            s: _over(moved[f"change.{round(100 * s)}"], "change") for s in study.displacement.similarities
        },
        anchored={name: _over(moved[f"{name}.{most}"], "change") for name in ANCHORED},
        noise=noise,
    )


def coverage_numbers(columns: Mapping[str, np.ndarray], world: CoverageWorld) -> dict[str, float]:
    """Means and extremes of the worlds of coverage and of classes."""
    few, many = min(world.labels), max(world.labels)
    numbers: dict[str, float] = {"most_labels": many, "beta": world.beta, "small.features": world.features}
    for coverage in COVERAGES:
        numbers |= _over(columns[f"{coverage}.difference"], f"{coverage}.difference")
        numbers[f"{coverage}.difference_most"] = float(columns[f"{coverage}.difference"].max())
        last = columns[f"{coverage}.distance.{many}"]
        numbers |= _over(last, f"{coverage}.distance_most_labels")
        numbers |= _over(columns[f"{coverage}.distance.{few}"] - last, f"{coverage}.nearer")
    for name in ("mass", "moved", "cost"):
        numbers |= _over(columns[f"islands.{name}"], f"islands.{name}")
    numbers |= _over(columns["islands.moved"] - columns["islands.mass"], "islands.shift")
    numbers["islands.loss_change_most"] = float(columns["islands.loss_change"].max())
    for kind in CLASSES:
        for name in ("gap", "spread", "worse"):
            numbers |= _over(columns[f"{kind}.{name}"], f"{kind}.{name}")
            numbers[f"{kind}.{name}_most"] = float(columns[f"{kind}.{name}"].max())
        reached = [columns[f"{kind}.reached.{m}"] for m in range(world.mixes)]
        numbers[f"{kind}.reached_median"] = float(np.median(reached))
    return numbers


def rounds_numbers(columns: Mapping[str, np.ndarray], world: RoundsWorld) -> dict[str, float]:
    """Regrets of each source of pairs after the last label; leads of iterative over offline."""
    last = max(world.labels)
    numbers: dict[str, float] = {"rounds.labels": last, "rounds.replies": world.replies}
    for name, beta in zip(("far", "near"), world.betas, strict=True):
        numbers[f"rounds.{name}.beta"] = beta
        at = {source: f"rounds.{name}.{source}" for source in SOURCES_OF_PAIRS}
        for key in at.values():
            numbers |= _over(columns[f"{key}.regret.{last}"], f"{key}.regret")
            for value in ("reward", "divergence", "accuracy"):
                numbers |= _over(columns[f"{key}.{value}"], f"{key}.{value}")
        regret, right = (
            {source: columns[f"{key}.{value}"] for source, key in at.items()}
            for value in (f"regret.{last}", "accuracy")
        )
        numbers |= _over(regret["offline"] - regret["iterative"], f"rounds.{name}.lead")
        numbers |= _over(regret["offline"] - regret["uniform"], f"rounds.{name}.uniform_lead")
        numbers |= _over(right["offline"] - right["iterative"], f"rounds.{name}.accuracy_lead")
    return numbers


def displacement_numbers(moved: Mapping[str, np.ndarray], world: DisplacementWorld) -> dict[str, float]:
    """Changes of the chosen reply's log-probability by similarity, and what anchors make of the largest."""
    percents = [round(100 * s) for s in world.similarities]
    changes = np.array([moved[f"change.{p}"] for p in percents])
    numbers: dict[str, float] = {"margin": world.margin, "most": max(world.similarities)}
    for percent, values in zip(percents, changes, strict=True):
        numbers |= _over(values, f"change.{percent}")
        numbers[f"falls.{percent}"] = float((values < 0).mean())
    numbers |= _over(np.polyfit(world.similarities, changes, 1)[0], "slope")
    numbers["monotone"] = float((np.diff(changes, axis=0) < 0).all(axis=0).mean())
    numbers |= _over(changes[0], "unlike") | _over(changes[-1], "alike")
    numbers |= _over(moved[f"others.{percents[-1]}"], "others")
    most = round(100 * max(world.anchored))
    for name in ANCHORED:
        key = name.replace(" + ", "_")
        numbers |= _over(moved[f"{name}.{most}"], key)
        numbers |= _over(moved[f"{name}.margin.{most}"], f"{key}.margin")
    return numbers


def noise_numbers(noise: NoiseFound, world: NoiseWorld) -> dict[str, float]:
    """Shares of the margin that are kept, at the middle rate and at each; regrets at the middle rate."""
    numbers = {"error": noise.error, "order": noise.order, "same": noise.same, "rate": noise.rate}
    numbers["agreement"] = world.agreement
    for name, values in noise.kept.items():
        numbers[f"{name}.kept"] = float(values[world.rates.index(noise.rate)])
        numbers |= {
            f"{name}.kept.{round(100 * e)}": float(v) for e, v in zip(world.rates, values, strict=True)
        }
    for at, labels in (("few", 0), ("many", -1)):
        numbers[f"{at}_labels"] = world.labels[labels]
        numbers |= {f"{name}.regret_{at}": float(values[labels]) for name, values in noise.regrets.items()}
        numbers[f"{at}_labels_lead"] = float(noise.regrets["DPO"][labels] - noise.regrets["rDPO"][labels])
        numbers[f"rDPO.none_{at}"] = float(noise.none[labels])
    return numbers


def _over(values: np.ndarray, key: str) -> dict[str, float]:
    """The mean over worlds with its interval, under a key."""
    return mean_interval(values).named(key)
