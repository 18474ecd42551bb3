"""What length is worth to reward models, before and after each remedy, over replicates, in one result.

    study = LengthStudy(train, held_out, candidates)
    found = length_bias([measure_remedies(study, seed) for seed in range(5)], study)
    found.metrics["length_bias.none.coefficient"], found.claims["length_remedy_works"]

A replicate draws all labels anew and fits every reward model to them; the texts stay. Every model is judged
by the truth: on held-out pairs, whose better reply is the one with more gold, and by what it takes from many
candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rlhf_hw.experiments.best_of_n import best_by_score
from rlhf_hw.experiments.hard_pairs import unpaired
from rlhf_hw.experiments.length_bias.biased_labels import SeenReplies, biased_labels
from rlhf_hw.experiments.length_bias.length_expectations import MARGIN, length_claims
from rlhf_hw.experiments.length_bias.remedies import REMEDIES, fit_penalty, fit_plain
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.distributions import correlation
from rlhf_hw.stats.equal_quality import length_at_equal_quality, spread_within
from rlhf_hw.stats.replicates import Replicated, replicated_mean, replicated_rate

CONTROL, BIASED = "control", "none"


@dataclass(frozen=True)
class LengthStudy:
    """What one replicate measures.

    Attributes:
        train: Pairs that are labelled.
        held_out: Pairs that models are judged on.
        candidates: Many replies to some prompts, for the best of them.
        share: Of labels that length decides.
        shares: Other such shares, for the model without remedy; 0 is the control's.
        strengths: Of the penalty, in units of the score's own slope on length.
    """

    train: SeenReplies
    held_out: SeenReplies
    candidates: SeenReplies
    share: float = 0.3
    shares: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    strengths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

    @property
    def codes(self) -> np.ndarray:
        """The prompt of each candidate, as a number, shape (prompts * K,)."""
        return np.repeat(np.arange(len(self.candidates.asked)), self.candidates.words.shape[1])


@dataclass(frozen=True)
class Judged:
    """What one reward model makes of held-out pairs and of candidates.

    Attributes:
        scores: Of the candidates, within prompts and in units of their deviation, shape (prompts * K,).
        right: 1 where a held-out pair is ordered as gold does, 0 where not, 1/2 for a tie, shape (pairs,).
        gold, words: Of the best of the candidates, beyond the mean of its prompt's, shape (prompts,).
    """

    scores: np.ndarray
    right: np.ndarray
    gold: np.ndarray
    words: np.ndarray


def judge_rewards(scores: np.ndarray, margins: np.ndarray, study: LengthStudy) -> Judged:
    """Judge a reward model by the truth.

    Args:
        scores: Of the candidates, shape (prompts, K).
        margins: Score of the first minus that of the second reply of each held-out pair, shape (pairs,).
        study: With the candidates and the held-out pairs.
    """
    most = scores.shape[1]
    gained = {
        name: best_by_score(scores, values, most) - values.mean(axis=1)
        for name, values in (("gold", study.candidates.gold), ("words", study.candidates.words))
    }
    right = outcomes(margins * np.sign(study.held_out.better))
    return Judged(spread_within(scores.ravel(), study.codes), right, **gained)


def measure_remedies(study: LengthStudy, seed: int) -> dict[str, Judged]:
    """One replicate of everything: "control", each of `REMEDIES`, `share_<percent>`, `strength_<percent>`."""
    labelled = {
        share: biased_labels(study.train, share, np.random.default_rng(seed))
        for share in {0.0, study.share, *study.shares}
    }
    biased = labelled[study.share]
    rewards = {CONTROL: fit_plain(study.train, labelled[0.0])}
    rewards |= {name: fit(study.train, biased) for name, fit in REMEDIES.items()}
    rewards |= {f"share_{_percent(s)}": fit_plain(study.train, labelled[s]) for s in study.shares}
    rewards |= {f"strength_{_percent(s)}": fit_penalty(study.train, biased, s) for s in study.strengths}
    return {
        name: judge_rewards(
            reward.scores(study.candidates), np.subtract(*reward.scores(study.held_out).T), study
        )
        for name, reward in rewards.items()
    }


def _percent(share: float) -> int:
    """A share or strength in a key."""
    return round(100 * share)


@dataclass(frozen=True, kw_only=True)
class LengthBias(Result):
    """What was found about length bias.

    Attributes:
        models: Model -> numbers of `judged_numbers`.
        by_share: Share of labels by length -> the same for the model without remedy.
        by_strength: Strength of the penalty -> the same.
        whole: Whole models, "biased" and "balanced" -> the same; empty where none were trained.
    """

    models: dict[str, dict[str, float]]
    by_share: dict[float, dict[str, float]]
    by_strength: dict[float, dict[str, float]]
    whole: dict[str, dict[str, float]]


def length_bias(
    replicates: Sequence[Mapping[str, Judged]],
    study: LengthStudy,
    whole: Sequence[Mapping[str, Judged]] = (),
    whole_pairs: int = 0,
) -> LengthBias:
    """All replicates together.

    Args:
        replicates: Of `measure_remedies`.
        study: What they measured.
        whole: Of whole models, "biased" and "balanced", one mapping a replicate.
        whole_pairs: What each of these learned from.

    Returns:
        Metrics under `length_bias.`: `<model>.*` of `judged_numbers` and `compared`, `share_<percent>.*`,
        `strength_<percent>.*`, `whole.<model>.*`; `grows`, rise of the coefficient from no label by length to
        the largest share; `too_strong`, gold of the strongest penalty's best candidates minus that of the
        plain one's, and `strongest.*`, its strength and coefficient;
        `correlation`, of gold and length within the candidates' prompts; sizes. And the claims.
    """
    judge, against = partial(judged_numbers, study=study), partial(compared, study=study)
    each = {name: [one[name] for one in replicates] for name in replicates[0]}
    models = {name: judge(found) for name, found in each.items()}
    for name in (CONTROL, *REMEDIES):
        models[name] |= against(each[name], each[BIASED], each[CONTROL])
    numbers: dict[str, float] = sizes_of(study, len(replicates))
    numbers |= {"whole.replicates": len(whole), "whole.pairs": whole_pairs} if whole else {}
    ends = [each[f"share_{_percent(s)}"] for s in (max(study.shares), min(study.shares))]
    numbers |= _coefficient(_difference(*ends), study).named("grows")
    strong = [each[f"strength_{_percent(max(study.strengths))}"], each["penalty"]]
    numbers |= replicated_mean(_lead(*strong)).named("too_strong")
    most = models[f"strength_{_percent(max(study.strengths))}"]
    numbers |= {f"strongest.{key}": most[key] for key in most if key.startswith("coefficient")}
    numbers["strongest.strength"] = max(study.strengths)
    found = {name: judge([one[name] for one in whole]) for name in (whole[0] if whole else ())}
    if whole:
        both = [[one[name] for one in whole] for name in ("balanced", "biased")]
        beside = against(both[0], both[1], both[1])  # no whole model has learned from honest labels
        found["balanced"] |= {k: v for k, v in beside.items() if k.startswith(("lowered", "gold_lead"))}
    for name, values in (models | {f"whole.{name}": v for name, v in found.items()}).items():
        numbers |= prefixed(name, values)
    return LengthBias(
        metrics=prefixed("length_bias", numbers),
        claims=length_claims(numbers, study.strengths),
        models={name: models[name] for name in (CONTROL, *REMEDIES)},
        by_share={share: models[f"share_{_percent(share)}"] for share in study.shares},
        by_strength={strength: models[f"strength_{_percent(strength)}"] for strength in study.strengths},
        whole=found,
    )


def sizes_of(study: LengthStudy, replicates: int) -> dict[str, float]:
    """How much was measured, and how length and gold go together."""
    candidates = study.candidates
    known = [spread_within(values.ravel(), study.codes) for values in (candidates.gold, candidates.words)]
    unequal = study.held_out.better * study.held_out.longer
    best = candidates.gold.max(axis=1) - candidates.gold.mean(axis=1)
    return {
        "replicates": replicates,
        "pairs": len(study.train.asked),
        "held_out": len(study.held_out.asked),
        "share": study.share,
        "prompts": len(candidates.asked),
        "samples": candidates.words.shape[1],
        "correlation": correlation(*known),
        "longer_is_better": float((unequal > 0).sum() / max(1, (unequal != 0).sum())),
        "best_possible_gold": float(best.mean()),
        "margin": MARGIN,
    }


def judged_numbers(each: Sequence[Judged], study: LengthStudy) -> dict[str, float]:
    """What a reward model is worth, over replicates.

    Returns:
        `coefficient`, deviations by which the score rises with one of length at equal gold, and
        `gold_coefficient`, the same of gold at equal length; `accuracy` on held-out pairs, on those whose
        better reply is the longer one (`longer`), on the others (`shorter`), and `split`, the difference;
        `gold` and `words` of the best of the candidates beyond their mean; all with their intervals.
    """
    by_length, by_gold = _slopes(np.array([one.scores for one in each]), study)
    found = by_length.named("coefficient") | by_gold.named("gold_coefficient")
    pairs, right = study.held_out, np.array([one.right for one in each])
    prompts = np.array([p.question for p in pairs.asked])
    sign = pairs.better * pairs.longer
    parts = {"accuracy": pairs.better != 0, "longer": sign > 0, "shorter": sign < 0}
    rates = {n: replicated_rate(right[:, rows], prompts[rows]) for n, rows in parts.items() if rows.any()}
    for name, rate in rates.items():
        found |= rate.named(name)
    if {"longer", "shorter"} <= rates.keys():
        found |= unpaired(rates["longer"], rates["shorter"]).named("split")
    for name in ("gold", "words"):
        found |= replicated_mean([getattr(one, name) for one in each]).named(name)
    return found


def compared(
    each: Sequence[Judged], biased: Sequence[Judged], control: Sequence[Judged], study: LengthStudy
) -> dict[str, float]:
    """A model beside the one without remedy and beside the control, replicate by replicate.

    Returns:
        `lowered`, by how much its coefficient lies below that of `biased`; `above_control`, by how much it
        lies above the control's; `gold_lead` and `gold_behind`, gold of its best candidates minus that of
        `biased`, and that of the control's minus its own; with their intervals.
    """
    found = _coefficient(_difference(biased, each), study).named("lowered")
    found |= _coefficient(_difference(each, control), study).named("above_control")
    found |= replicated_mean(_lead(each, biased)).named("gold_lead")
    return found | replicated_mean(_lead(control, each)).named("gold_behind")


def _difference(first: Sequence[Judged], second: Sequence[Judged]) -> np.ndarray:
    return np.array([a.scores - b.scores for a, b in zip(first, second, strict=True)])


def _lead(first: Sequence[Judged], second: Sequence[Judged]) -> np.ndarray:
    return np.array([a.gold - b.gold for a, b in zip(first, second, strict=True)])


def _slopes(scores: np.ndarray, study: LengthStudy) -> tuple[Replicated, Replicated]:
    known = study.candidates
    return length_at_equal_quality(scores, known.gold.ravel(), known.words.ravel(), study.codes)


def _coefficient(scores: np.ndarray, study: LengthStudy) -> Replicated:
    return _slopes(scores, study)[0]
