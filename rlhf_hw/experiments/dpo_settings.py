"""Which learning rate and beta DPO gets: tried on prompts apart from validation, chosen by a written rule.

The rule, which needs no true reward and so is the same on any data: of the settings whose KL divergence from
the start keeps within a budget, the one with the highest mean score by the judge; where all exceed it, the
one that moved least. The default budget is how far best-of-16 sampling moves, ln 16 - 15/16 nats (Stiennon et
al. 2020, appendix), so that DPO goes no further than best-of-n may. The judge is a reward
model of other pairs and another seed than the first one; where there is none, the first judges. Prompts stand
in no training or validation pair.

Where the truth is known, what gold would have chosen stands beside it, and what the rule's choice costs. Gold
and score against KL over the settings are the frontier of Gao, Schulman and Hilton (2023): where the score
still rises and gold falls, the policy is over-optimised.

    settings = grid("3e-5,1e-4", "0.1")
    found = choose(settings, [answers_judged(...) for each], answers_judged(start), budget=1.84)
    found.chosen, found.metrics["choice.gold_difference"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.models.batches import group_tokens
from rlhf_hw.models.generation import generate
from rlhf_hw.models.loading import load_policy, pick_device
from rlhf_hw.models.log_probs import exact_kl
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.intervals import Estimate, mean_interval
from rlhf_hw.world.gold import gold

JUDGED = ("score", "judge", "gold")  # by the first reward model, by an independent one, by the truth


class Setting(NamedTuple):
    """What is chosen of DPO's settings."""

    learning_rate: float
    beta: float

    def __str__(self) -> str:
        return f"{self.learning_rate:.0e}, beta {self.beta:g}"


@dataclass(frozen=True, kw_only=True)
class SettingsTried(Result):
    """The settings and what came of them.

    Attributes:
        settings: In the order in which they were tried.
        kl: Mean nats a reply from the start, of each.
        gains: Measure ("score", "judge", "gold", where known) -> mean difference to the start's replies, of
            each setting, with its interval over prompts.
        chosen: Number of the setting that the rule picks.
        budget: KL that a chosen setting may have.
        best: Measure -> number of the setting with the highest mean.
    """

    settings: list[Setting]
    kl: list[float]
    gains: dict[str, list[Estimate]]
    chosen: int
    budget: float
    best: dict[str, int]


def grid(learning_rates: str, betas: str) -> list[Setting]:
    """Every learning rate with every beta.

    Args:
        learning_rates, betas: Numbers above 0, "3e-5,1e-4".

    Raises:
        ValueError: something else.
    """
    return [
        Setting(rate, beta)
        for beta in _numbers("betas", betas)
        for rate in _numbers("learning_rates", learning_rates)
    ]


def _numbers(name: str, text: str) -> list[float]:
    try:
        found = [float(part) for part in str(text).split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number < float("inf") for number in found):
        raise InputError(f"{name}: expected numbers above 0, such as '3e-5,1e-4', found {text!r}")
    return found


def prompts_apart(
    preferences: Sequence[Preference], trained: int, held_out: Sequence[Preference], count: int
) -> list[Preference]:
    """The last prompts of a training set that no model is trained on, and none is evaluated on.

    Args:
        preferences: The whole training set.
        trained: How many of its pairs, from the first on, models may be trained on.
        held_out: Pairs that are evaluated on.
        count: How many prompts.

    Raises:
        ValueError: fewer are left.
    """
    used = {p.prompt for p in (*preferences[:trained], *held_out)}
    apart = list({p.prompt: p for p in preferences if p.prompt not in used}.values())
    if len(apart) < count:
        raise InputError(
            f"choice_prompts: {count} prompts are asked for, and {len(apart)} are left of {len(preferences)} "
            f"training pairs beyond the {trained} of all replicates; lower replicate_pairs or "
            "choice_prompts, or set settings_fixed to take learning_rate and beta as they are"
        )
    return apart[-count:]


def pairs_of_replicates(replicates: int, replicate_pairs: int, **sizes: int) -> int:
    """How many training pairs, from the first on, the replicates take.

    Args:
        replicates: How many there are.
        replicate_pairs: Pairs from where one begins to where the next does.
        sizes: Pairs that a training of each takes, by the parameter's name; 0 for all.

    Raises:
        ValueError: a training takes pairs of the next replicate.
    """
    for name, size in sizes.items():
        if not 0 < size <= replicate_pairs:
            raise InputError(
                f"{name}: expected 1 to replicate_pairs, {replicate_pairs}, so that replicates and the "
                f"prompts on which settings are compared stay apart, found {size}"
            )
    return replicates * replicate_pairs


def answers_judged(
    policy: Path,
    start: Path,
    judges: Mapping[str, Path],
    preferences: Sequence[Preference],
    world: bool,
    limits: Mapping[str, int],
    sampling: Mapping[str, float],
) -> pd.DataFrame:
    """A policy answers prompts; reward models and, in the simulated world, gold judge the answers.

    Args:
        policy, start: Checkpoints; start is what KL is measured from.
        judges: "score" and perhaps "judge" -> reward model.
        preferences: They give the prompts.
        world: Whether gold is known.
        limits: max_prompt_tokens and max_reply_tokens.
        sampling: Of `generation.generate`.

    Returns:
        One row a prompt: `kl` (exact, nats), and the judges' columns.
    """
    renderer = Renderer.load(policy, **limits)
    models = [load_policy(folder).to(pick_device()) for folder in (policy, start)]
    prompts = [p.prompt for p in preferences]
    replies = generate(models[0], renderer, prompts, **sampling)
    groups = group_tokens(renderer.prompt_ids(prompts), [[reply.ids] for reply in replies])
    found = {"kl": exact_kl(*models, groups, renderer.pad_id)[:, 0]}
    texts = [reply.text for reply in replies]
    for name, folder in judges.items():
        found[name] = RewardModel(folder, **limits).score(prompts, [[text] for text in texts])[:, 0]
    if world:
        found["gold"] = np.array([gold(p.question, text) for p, text in zip(preferences, texts, strict=True)])
    return pd.DataFrame(found)


def choose(
    settings: Sequence[Setting], tables: Sequence[pd.DataFrame], start: pd.DataFrame, budget: float
) -> SettingsTried:
    """Choose by the rule, and say what each judge would have chosen.

    Args:
        settings: What was tried.
        tables: From `answers_judged`, of each.
        start: The same of the policy that DPO starts from, same prompts.
        budget: Largest mean KL from the start of a setting that is taken, in nats a reply.

    Returns:
        Metrics under `choice`: prompts, settings, learning_rate, beta, kl, kl_budget, and for each judge
        <judge>_difference (+_low, _high) of the chosen setting; <judge>_best.learning_rate and .beta, the
        setting with the judge's highest mean; farthest.kl and farthest.<judge>_difference of the setting that
        moved most; where gold is known, <judge>_best.gold_difference (+_low,
        _high) of that setting, and gold_lost (+_low, _high), gold of the setting best by gold minus that of
        the chosen one.
    """
    known = [name for name in JUDGED if name in start]
    kl = [float(table["kl"].mean()) for table in tables]
    gains = {name: [mean_interval(table[name] - start[name]) for table in tables] for name in known}
    best = {name: int(np.argmax([gain.value for gain in gains[name]])) for name in known}
    deciding = "judge" if "judge" in known else "score"
    chosen = by_rule([gain.value for gain in gains[deciding]], kl, budget)
    numbers = {"prompts": len(start), "settings": len(settings), "kl": kl[chosen], "kl_budget": budget}
    numbers |= settings[chosen]._asdict()
    far = int(np.argmax(kl))
    numbers["farthest.kl"] = kl[far]
    for name in known:
        numbers |= gains[name][chosen].named(f"{name}_difference")
        numbers |= gains[name][far].named(f"farthest.{name}_difference")
        numbers |= prefixed(f"{name}_best", settings[best[name]]._asdict())
        if "gold" in known:
            numbers |= gains["gold"][best[name]].named(f"{name}_best.gold_difference")
    if "gold" in known:
        lost = tables[best["gold"]]["gold"] - tables[chosen]["gold"]
        numbers |= mean_interval(lost).named("gold_lost")
    return SettingsTried(
        metrics=prefixed("choice", numbers),
        claims={"settings_tried": True, "choice_by_judge": deciding == "judge"}
        | edges(settings, settings[chosen])
        | {"choice_beyond_budget": kl[chosen] > budget},
        tables={"dpo_settings": setting_rows(settings, kl, gains, chosen)},
        settings=list(settings),
        kl=kl,
        gains=gains,
        chosen=chosen,
        budget=budget,
        best=best,
    )


def by_rule(gains: Sequence[float], kl: Sequence[float], budget: float) -> int:
    """Number of the candidate with the highest gain within the budget; if none is, that with the least KL."""
    within = [n for n, moved in enumerate(kl) if moved <= budget]
    return max(within, key=lambda n: gains[n]) if within else int(np.argmin(kl))


def edges(settings: Sequence[Setting], chosen: Setting) -> dict[str, bool]:
    """Whether a value of the chosen setting is the smallest or the largest of several that were tried."""
    tried = [sorted(set(values)) for values in zip(*settings, strict=True)]
    ends = [
        len(values) > 1 and value in (values[0], values[-1])
        for values, value in zip(tried, chosen, strict=True)
    ]
    return {"choice_at_the_edge": any(ends)}


def setting_rows(
    settings: Sequence[Setting], kl: Sequence[float], gains: Mapping[str, Sequence[Estimate]], chosen: int
) -> list[dict]:
    """One row a setting, for the report."""
    return [
        {
            "learning_rate": f"{setting.learning_rate:.0e}",
            "beta": f"{setting.beta:g}",
            "kl": kl[n],
            **{
                name: f"{gain[n].value:+.2f} [{gain[n].low:+.2f}, {gain[n].high:+.2f}]"
                for name, gain in gains.items()
            },
            "chosen": n == chosen,
        }
        for n, setting in enumerate(settings)
    ]
