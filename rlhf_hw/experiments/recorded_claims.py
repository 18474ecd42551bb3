"""What may be said of a recorded run: statements that its numbers bear out, sentences for notebook 07.

A fact that only the published run's own repository tells (who made it, what its scripts do) is said of no
other: `statements` has `laolida_w` where the run's folder has that run's name and its figures come out.

    statements(metrics)["gain"]
    "\\n".join(conclusions(metrics))
"""

from collections.abc import Callable, Mapping

from rlhf_hw.stats.intervals import Estimate

Metrics = Mapping[str, float | str]
KNOWN_RUN = "recorded-run"  # folder of laolida-w/align-anything, commit dc9c4d9
PUBLISHED_FIGURES = {  # what its author gives, to three digits
    "validation.accuracy_strict": 0.745,
    "validation.chosen_mean": 0.391,
    "validation.rejected_mean": -0.457,
    "base.score_mean": 2.167,
    "dpo.score_mean": 2.656,
    "dpo.wins": 0.571,
}

KNOWN_FACTS = (
    "Public repository laolida-w/align-anything, commit dc9c4d9, Apache-2.0; Qwen2.5-0.5B-Instruct.",
    "Its script generates in batches and leaves the padding side as it is. Padded on the right, such a "
    "model goes on from padding and not from the prompt, which may be why so many base replies begin alike.",
    "The texts that were scored end in the newline of the chat template, and its script renders them "
    "as pairs: a read-out at another token is no likely cause of their level.",
)


def is_known_run(metrics: Metrics) -> bool:
    """Whether these are the numbers of the run whose repository is known."""
    near = [abs(metrics.get(f"recorded.{k}", 9.0) - told) < 6e-4 for k, told in PUBLISHED_FIGURES.items()]
    return metrics.get("recorded.name") == KNOWN_RUN and all(near)


def statements(metrics: Metrics) -> dict[str, bool]:
    """What the numbers allow to say of the recorded run; False also where its files do not tell."""

    def low(key: str) -> float:
        return metrics.get(f"recorded.{key}_low", -1.0)

    def high(key: str) -> float:
        return metrics.get(f"recorded.{key}_high", 2.0)

    def less(first: str, second: str) -> bool:
        keys = [f"recorded.{key}" for key in (first, second)]
        return all(key in metrics for key in keys) and metrics[keys[0]] < metrics[keys[1]]

    return {
        "laolida_w": is_known_run(metrics),
        "level_rises": low("rise.base.rise") > 0 and low("rise.dpo.rise") > 0,
        "gap_is_left": low("gap.base") > 0 and low("gap.dpo") > 0,
        "gap_below_rise": all(less(f"gap.{policy}", f"rise.{policy}.rise") for policy in ("base", "dpo")),
        "leans_on_length": low("validation.accuracy_longer_chosen")
        > metrics.get("recorded.validation.accuracy_longer_rejected_high", 1.0),
        "replies_longer_than_pairs": all(
            less("validation.words_mean", f"{policy}.words_mean") for policy in ("base", "dpo")
        ),
        "gain": low("dpo.win_rate") > 0.5,
        "loss": high("dpo.win_rate") < 0.5,
        "gain_at_equal_length": low("dpo.win_rate_length_controlled") > 0.5,
        "loss_at_equal_length": high("dpo.win_rate_length_controlled") < 0.5,
        "gain_without_repetition": low("dpo.not_repetitive.win_rate") > 0.5,
        "base_damaged": "recorded.base.damage.opening" in metrics,
        "gain_without_that_opening": low("dpo.other_opening.win_rate") > 0.5,
        "gain_without_damage": low("dpo.sound.win_rate") > 0.5,
        "dpo_shorter": high("dpo.length_difference") < 0,
        "dpo_repeats_more": low("dpo.repetition_difference") > 0,
        "repetitive_lead_not_at_equal_length": low("dpo.repetitive.win_rate")
        > 0.5
        > low("dpo.repetitive.win_rate_length_controlled"),
    }


def known_facts(metrics: Metrics) -> list[str]:
    """What is known of a run beside its files, a sentence each: of the published run; of others nothing."""
    return list(KNOWN_FACTS) if "recorded.claims.laolida_w" in metrics else []


def conclusions(metrics: Metrics) -> list[str]:
    """What notebook 07 shows of the run at hand, a sentence each; of what its files do not tell, none."""
    holds = {name.rpartition(".")[2] for name in metrics if name.startswith("recorded.claims.")}

    def told(key: str, form: str) -> str:
        return format(Estimate.of(metrics, f"recorded.{key}"), form)

    def both(form: str, *keys: str) -> str:
        return " (base) and ".join(told(key, form) for key in keys) + " (DPO)"

    found = [_soundness(metrics, holds)]
    if "level_rises" in holds:
        rises = both("+.2f", "rise.base.rise", "rise.dpo.rise")
        found.append(f"Generated replies score above those of the pairs: {rises}.")
    if "gap_is_left" in holds:
        gaps = both("+.2f", "gap.base", "gap.dpo")
        found.append(f"Beside the chosen replies to the same prompts a gap is left: {gaps}.")
    shares = [f"rise.{policy}.rise_length_share" for policy in ("base", "dpo")]
    ways = {"across": shares, "within": [f"{key}_within" for key in shares]}
    if all(f"recorded.{key}_low" in metrics for keys in ways.values() for key in keys):
        parts = ", or ".join(f"{way} prompts {both('.0%', *keys)}" for way, keys in ways.items())
        found.append(
            f"Of the rise this share goes with length: {parts}. The rest is better replies, other properties "
            "that the reward model likes, or unfamiliar text: with the models at hand, notebook 06 tells."
        )
    if "recorded.dpo.win_rate_low" in metrics:
        found += _comparison(holds, told)
    if "recorded.validation.accuracy" in metrics:
        accuracy = metrics["recorded.validation.accuracy"]
        found.append(f"The accuracy on held-out pairs, {accuracy:.2f}, shows nothing of all this.")
    return found


def _soundness(metrics: Metrics, holds: set[str]) -> str:
    """What is damaged, in a sentence."""
    shares = [metrics[f"recorded.{policy}.damage.share"] for policy in ("base", "dpo")]
    if "base_damaged" in holds:
        count, text = (metrics[f"recorded.base.damage.opening_{part}"] for part in ("count", "text"))
        return (
            f"{count:.0f} of {metrics['recorded.replies']:.0f} base replies begin with {text}, which the "
            "other files hardly know, and no score tells. Look at the first words of a file before comparing "
            "anything."
        )
    if not any(shares):
        return "No sign of damage is named in either file."
    return f"A sign that is damage have {shares[0]:.1%} of base's and {shares[1]:.1%} of DPO's replies."


def _comparison(holds: set[str], told: Callable[[str, str], str]) -> list[str]:
    """DPO against base, as counted, at equal length, without damage; and repetition."""
    rates = {"": "dpo.win_rate", "_at_equal_length": "dpo.win_rate_length_controlled"}
    found = []
    for end, key in rates.items():
        leads = {f"gain{end}": "DPO leads", f"loss{end}": "Base leads"}
        lead = next((said for claim, said in leads.items() if claim in holds), "No lead is shown")
        way = end.replace("_", " ") or " as counted"
        found.append(f"{lead}{way}: DPO's win rate is {told(key, '.2f')}.")
    for claim, said in {
        "gain_without_damage": "DPO also leads where neither reply shows damage.",
        "dpo_repeats_more": "DPO repeats itself more than its base.",
        "repetitive_lead_not_at_equal_length": "Where replies repeat, no lead beyond length is shown.",
    }.items():
        found += [said] if claim in holds else []
    return found
