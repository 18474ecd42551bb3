"""All that the simulated world shows about plural preferences, over several replicates, in one result.

    study = Study(train, held_out, candidates)
    found = plural_preferences([measure(study, seed) for seed in range(5)], study)
    found.metrics["plural.single.brief.disputed"], found.claims["plural_single_fails_smaller"]

A replicate draws annotators, users and votes anew and fits every model to them; the texts stay. So numbers of
pairs carry an interval over prompts and one over replicates, and numbers of one model an interval over
replicates alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rlhf_hw.experiments.plural.crowd import WorldPairs
from rlhf_hw.experiments.plural.expectations import plural_claims
from rlhf_hw.experiments.plural.group_models import (
    GROUPS,
    Crowd,
    disputed,
    judge_gate,
    judge_groups,
    judge_two,
    members_by_comparisons,
    tie_numbers,
)
from rlhf_hw.experiments.plural.user_models import CONTEXTS, USER_MODELS, Individuals, judge_users
from rlhf_hw.experiments.plural.welfare import RULES, Candidates, serve
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.stats.replicates import (
    replicated_lead,
    replicated_mean,
    replicated_rate,
    trainings_interval,
)

ONE_GROUP = tuple(f"{model}.{GROUPS[0]}" for model in ("single", "mixture"))
MODELS = ("single", "mean and variance", "mixture", "known groups", "shuffled labels")


@dataclass(frozen=True)
class Study:
    """What one replicate measures.

    Attributes:
        train: Pairs that are judged.
        held_out: Pairs that models are judged on.
        candidates: Many replies to some prompts, for the best of them.
        crowd: Annotators of two groups.
        people: Users with tastes of their own.
        majorities: Other shares of the larger group.
        counts: Comparisons a user, at as many votes.
        contexts: Comparisons that new users show.
        states: The same pairs as `train` and `held_out` with other features, or None.
    """

    train: WorldPairs
    held_out: WorldPairs
    candidates: Candidates
    crowd: Crowd = field(default_factory=Crowd)
    people: Individuals = field(default_factory=Individuals)
    majorities: Sequence[float] = (0.5, 0.9)
    counts: Sequence[int] = (1, 2, 4, 8, 16, 32)
    contexts: Sequence[int] = CONTEXTS
    states: tuple[WorldPairs, WorldPairs] | None = None


@dataclass(frozen=True)
class Drawn:
    """One replicate.

    Attributes:
        right: Name -> how often each held-out pair is ordered rightly, shape (pairs,).
        users: Name -> how often pairs are ordered as each new user wants, shape (new users,).
        gains: Rule -> what the best of many is worth, shape (prompts, groups).
        frontier: Mean gains by weight of the smaller group, shape (weights, groups).
        numbers: What is one number a replicate.
    """

    right: dict[str, np.ndarray]
    users: dict[str, np.ndarray]
    gains: dict[str, np.ndarray]
    frontier: np.ndarray
    numbers: dict[str, float]


def measure(study: Study, seed: int) -> Drawn:
    """One replicate of everything, of a seed."""
    train, held_out, crowd = study.train, study.held_out, study.crowd
    right, numbers, rewards = judge_groups(crowd, train, held_out, seed)
    for share in study.majorities:
        others = judge_two(replace(crowd, majority=share), train, held_out, seed)
        right |= {f"share_{round(100 * share)}.{name}": values for name, values in others.items()}
    if study.states is not None:
        right |= {f"states.{name}": v for name, v in judge_two(crowd, *study.states, seed).items()}
    alike = replace(crowd, majority=1.0, spread=0.0)
    control, one_group, _ = judge_groups(alike, train, held_out, seed)
    right |= {f"one_group.{name}": control[name] for name in ONE_GROUP}
    numbers |= prefixed("one_group", one_group)
    by_count = members_by_comparisons(crowd, tuple(study.counts), train, held_out, seed)
    numbers |= {f"each.{name}": float(value) for name, value in by_count.items() if value.ndim == 0}
    right |= {f"each.{name}": values for name, values in by_count.items() if values.ndim}
    for name, visible in (("visible", True), ("hidden", False)):
        right |= {
            f"gate.{name}.{model}": values
            for model, values in judge_gate(crowd, train, held_out, seed, visible).items()
        }
    numbers |= prefixed("ties", tie_numbers(crowd, train, held_out, seed))
    gains, border, weights = serve(study.candidates, rewards, (crowd.majority, 1 - crowd.majority))
    numbers |= prefixed("weight", weights)
    users = judge_users(study.people, train, held_out, seed, study.contexts)
    same = replace(study.people, spread=0.0)
    ends = (study.contexts[0], study.contexts[-1])
    users |= {f"alike.{n}": v for n, v in judge_users(same, train, held_out, seed, ends).items()}
    return Drawn(right, users, gains, border, numbers)


@dataclass(frozen=True, kw_only=True)
class PluralPreferences(Result):
    """What the simulated world showed about plural preferences.

    Attributes:
        accuracies: Group -> model -> numbers with `accuracy` on disputed pairs and its intervals.
        by_count: Comparisons a user -> `accuracy` of the smaller group's reward on disputed pairs, and
            `members`, share of users whose group is found, with intervals.
        by_context: Model -> comparisons shown -> `accuracy` for new users, with intervals.
        rules: Rule -> group -> `gain` with intervals.
        frontier: Mean gains of the larger and the smaller group, by weight, shape (weights, 2).
    """

    accuracies: dict[str, dict[str, dict[str, float]]]
    by_count: dict[int, dict[str, float]]
    by_context: dict[str, dict[int, dict[str, float]]]
    rules: dict[str, dict[str, dict[str, float]]]
    frontier: np.ndarray


def slug(name: str) -> str:
    """A model's name in a key."""
    return name.replace(" ", "_")


def over_replicates(values: Sequence[float], key: str) -> dict[str, float]:
    """The mean of one number a replicate, with its interval over them; of a single one without."""
    found = trainings_interval(values)
    return found.named(key) if found is not None else {key: float(np.mean(values))}


def plural_preferences(replicates: Sequence[Drawn], study: Study) -> PluralPreferences:
    """All replicates together.

    Returns:
        Metrics under `plural.`:
        `<model>.<group>.accuracy` and `.disputed` (accuracy on the pairs that the groups want in opposite
        order), the same under `share_<percent>`, `states` and `one_group`;
        `lead.<group>`, the mixture's lead over the single reward on disputed pairs;
        `each.<n>.disputed`, `each.<n>.members`, once more under `few` and `many`;
        `users.<model>.<n>`, once more under `last`;
        `gate.<visible|hidden>.<model>` and `.lead`;
        `welfare.<rule>.<group>`, `.lead`, `.worst`;
        `explained`, `auroc_*`, `gain`, `ties.*`, `weight.*`. And the claims of `plural_claims`.
    """
    metrics: dict[str, float] = {
        "replicates": len(replicates),
        "judged_pairs": len(study.train.prompts),
        "annotators": study.crowd.users,
        "each": study.crowd.each,
        "majority": study.crowd.majority,
        "new_users": study.people.new,
    } | accuracy_metrics(replicates, study)
    for name in replicates[0].numbers:
        metrics |= over_replicates([one.numbers[name] for one in replicates], name)
    falls = [one.numbers["one_group.explained"] - one.numbers["explained"] for one in replicates]
    metrics |= over_replicates(falls, "explained_falls")
    for end, count in (("few", min(study.counts)), ("many", max(study.counts))):
        metrics[f"{end}.comparisons"] = count
        for what in ("disputed", "members"):
            metrics |= _renamed(metrics, f"each.{count}.{what}", f"{end}.{what}")
    rules, welfare = welfare_metrics(replicates)
    metrics |= welfare | user_metrics(replicates, study.contexts)
    return PluralPreferences(
        metrics=prefixed("plural", metrics),
        claims=plural_claims(metrics, study.counts),
        accuracies=_accuracies(metrics),
        by_count={n: _named(metrics, f"each.{n}") for n in study.counts},
        by_context={
            model: {n: _renamed(metrics, f"users.{slug(model)}.{n}", "accuracy") for n in study.contexts}
            for model in USER_MODELS
        },
        rules=rules,
        frontier=np.mean([one.frontier for one in replicates], axis=0),
    )


def accuracy_metrics(replicates: Sequence[Drawn], study: Study) -> dict[str, float]:
    """How often pairs are ordered rightly, and the leads of the plural models; number and share of pairs."""
    split = disputed(study.held_out)
    metrics: dict[str, float] = {"pairs": len(split), "disputed_share": float(split.mean())}
    stacked = {name: np.array([one.right[name] for one in replicates]) for name in replicates[0].right}
    splits = {"states": disputed(study.states[1])} if study.states is not None else {}
    for name, rows in stacked.items():
        head, key = name.partition(".")[0], slug(name)
        if head != "gate":
            metrics |= replicated_rate(rows[:, splits.get(head, split)]).named(f"{key}.disputed")
        metrics |= replicated_rate(rows).named(f"{key}.accuracy")
    for group in GROUPS:
        sides = (stacked[f"{model}.{group}"][:, split] for model in ("mixture", "single"))
        metrics |= replicated_lead(*sides).named(f"lead.{group}")
    for name in ("visible", "hidden"):
        sides = (stacked[f"gate.{name}.{model}"] for model in ("gate", "single"))
        metrics |= replicated_lead(*sides).named(f"gate.{name}.lead")
    return metrics


def welfare_metrics(replicates: Sequence[Drawn]) -> tuple[dict, dict[str, float]]:
    """Rule -> group -> gain; and the same as metrics, with the worst-off group's gain and its lead."""
    rules: dict[str, dict[str, dict[str, float]]] = {rule: {} for rule in RULES}
    metrics: dict[str, float] = {}
    tables = {rule: np.array([one.gains[rule] for one in replicates]) for rule in RULES}
    worst = {rule: table.mean(axis=1).min(axis=1) for rule, table in tables.items()}  # shape (replicates,)
    for rule, table in tables.items():
        for g, group in enumerate(GROUPS):
            found = replicated_mean(table[:, :, g])
            rules[rule][group] = found.named("gain")
            metrics |= found.named(f"welfare.{rule}.{group}")
            lead = replicated_mean(table[:, :, g] - tables["single"][:, :, g])
            if rule != "single":
                metrics |= lead.named(f"welfare.{rule}.{group}.lead")
        metrics |= over_replicates(worst[rule], f"welfare.{rule}.worst")
    return rules, metrics


def user_metrics(replicates: Sequence[Drawn], contexts: Sequence[int]) -> dict[str, float]:
    """Accuracy for new users; the lead of personal models, with the most comparisons, over one for all."""
    metrics: dict[str, float] = {}
    stacked = {name: np.array([one.users[name] for one in replicates]) for name in replicates[0].users}
    for name, rows in stacked.items():
        metrics |= replicated_rate(rows).named(f"users.{slug(name)}")
    most = contexts[-1]
    for model in USER_MODELS[1:]:
        for head in ("", "alike."):
            sides = (stacked[f"{head}{one}.{most}"] for one in (model, "single"))
            metrics |= replicated_lead(*sides).named(f"users.{head}{slug(model)}.lead")
        sides = (stacked[f"{model}.{n}"] for n in (most, contexts[0]))
        metrics |= replicated_lead(*sides).named(f"users.{slug(model)}.climb")
    for model in USER_MODELS:
        metrics |= _renamed(metrics, f"users.{slug(model)}.{most}", f"users.{slug(model)}.last")
    return metrics | {"users.most": most}


def _accuracies(metrics: Mapping[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        group: {model: _renamed(metrics, f"{slug(model)}.{group}.disputed", "accuracy") for model in MODELS}
        for group in GROUPS
    }


def _renamed(metrics: Mapping[str, float], key: str, name: str) -> dict[str, float]:
    """The numbers under a key and its intervals, under another name."""
    ends = ("", "_low", "_high", "_trainings_low", "_trainings_high")
    return {f"{name}{end}": metrics[f"{key}{end}"] for end in ends if f"{key}{end}" in metrics}


def _named(metrics: Mapping[str, float], head: str) -> dict[str, float]:
    return _renamed(metrics, f"{head}.disputed", "accuracy") | _renamed(metrics, f"{head}.members", "members")
