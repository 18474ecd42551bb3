"""Who needs what: one declaration of the notebooks.

`STAGES` says of each notebook what it reads of others, what it makes and which figures it draws. The runner,
`Run.need`, the stamps (module `stamps`) and the report read it; a further notebook gets an entry here. A
notebook that has none needs nothing and makes nothing for others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rlhf_hw.errors import InputError
from rlhf_hw.paths import DATA, sources_in
from rlhf_hw.pipeline.profiles import default_values

KEPT_RESULTS = DATA / "kept"  # what experiments found, for the reports of runs without them


@dataclass(frozen=True)
class Stage:
    """What one notebook has to do with the others. Artefacts are files and folders of the run's folder.

    Attributes:
        needs: What it reads, each with the parameters that name something to read instead: where one of them
            is set, the artefact is not needed.
        replicated: What it reads once for each replicate (`replica`), with the parameters as in `needs`; and
            where its `own_models` is set, for each part of mixed data (`parted`).
        uses: What it reads where it is there.
        makes: All that it can make for others, for the report and for itself. With some parameters or data
            it makes less; `*` stands for any part of a name.
        figures: Names of the figures that it can draw.
        experiment: It runs only where asked for: by name, or all of its kind by `--experiments`. The report
            of a run without it shows what was kept of an earlier one (module `kept_results`).
    """

    needs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    replicated: Mapping[str, Sequence[str]] = field(default_factory=dict)
    uses: Sequence[str] = ()
    makes: Sequence[str] = ()
    figures: Sequence[str] = ()
    experiment: bool = False

    def needed(self, parameters: Mapping[str, Any]) -> list[str]:
        """What it needs with these parameters."""
        wanted = {
            name: not any(map(parameters.get, instead))
            for name, instead in {**self.needs, **self.replicated}.items()
        }
        once = [name for name in self.needs if wanted[name]]
        replicates = range(int(parameters.get("replicates") or 1))
        parts = parameters.get("parts", "") if parameters.get("own_models") else ""
        each = [own for name in self.replicated if wanted[name] for own in parted(name, parts).values()]
        return once + [replica(name, k) for name in each for k in replicates]

    def files(self) -> list[str]:
        """Everything that it can leave in the run's folder, figures in all formats, languages and widths."""
        places = ("", "zh/", "narrow/", "zh/narrow/")
        forms = ("{}.png", *(f"{place}{{}}.{kind}" for place in places for kind in ("pdf", "svg")))
        return [*self.makes, *(f"fig/{form.format(name)}" for name in self.figures for form in forms)]


def replica(artefact: str, replicate: int) -> str:
    """What an artefact of one replicate is called: the first has the plain name, others their number.

    A score file has it before its ending: `scores/validation-1.jsonl`.
    """
    name, ending, _ = artefact.partition(".jsonl")
    return artefact if replicate == 0 else f"{name}-{replicate}{ending}"


def parted(artefact: str, parts: str) -> dict[str, str]:
    """What an artefact is called that is made for each part of mixed data, by part.

    The first part's has the plain name, so that whoever needs one finds it; that of another part names it:
    `reward_model-of-harmless`.

    Args:
        artefact: Its name.
        parts: Names of the parts, with commas; empty: one artefact for all, under "".
    """
    first, *others = sources_in(parts) or [""]
    return {first: artefact} | {part: f"{artefact}-of-{part}" for part in others}


RECORDED_RUN = "07_recorded_run"  # the one whose figures need no run: the repository has them
REPLIES = ("scores_base",)  # notebook 05 reads recorded replies instead of making some
STAGES: Mapping[str, Stage] = {
    "00_base_model": Stage(makes=("base", "metrics/00.json")),
    "01_reward_model_training": Stage(
        needs={"base": ()},
        makes=("reward_model", "reward_model-*", "learning_curve", "metrics/01.json"),
        figures=("rm_train_accuracy", "rm_train_loss", "rm_eval_accuracy"),
    ),
    "02_reward_model_evaluation": Stage(
        needs={"base": ("scores",)},
        replicated={"reward_model": ("scores", "reward_model")},
        uses=("learning_curve",),
        makes=(
            "scores/validation*.jsonl",
            "scores/train*.jsonl",
            "scores/ood*.jsonl",
            "scores/*_prompt*.jsonl",
            "scores/untrained.jsonl",
            "scores/replies_beside_data*.jsonl",
            "scores/learning_curve_*.jsonl",
            "tables/parts.json",
            "metrics/02.json",
        ),
        figures=("rm_baselines", "learning_curve", "rm_calibration", "rm_accuracy_by_length"),
    ),
    "03_preference_visualization": Stage(
        needs={"scores/validation.jsonl": ("scores",)},
        uses=("scores/untrained.jsonl", "scores/train.jsonl", "metrics/02.json"),
        makes=("metrics/03.json",),
        figures=(
            "scores_untrained",
            "scores_validation",
            "scores_train",
            "scores_side_by_side",
            "rm_margins",
            "rm_length",
            "parts_accuracy",
        ),
    ),
    "04_dpo_training": Stage(
        needs={"base": ()},
        replicated={"reward_model": ("settings_fixed",)},
        makes=("sft", "sft-*", "dpo", "dpo-*", "dpo_settings", "tables/dpo_settings.json", "metrics/04.json"),
        figures=(
            "sft_loss",
            "dpo_settings",
            "dpo_train_accuracy",
            "dpo_train_loss",
            "dpo_rewards",
            "dpo_log_probabilities",
        ),
    ),
    "05_dpo_inference_analysis": Stage(
        needs={"base": REPLIES},
        replicated=dict.fromkeys(("sft", "dpo", "reward_model", "scores/validation.jsonl"), REPLIES),
        makes=(
            "scores/generated_*.jsonl",
            "tables/samples.json",
            "tables/part_*.json",
            "tables/damage.json",
            "metrics/05.json",
        ),
        figures=(
            "inference_validation",
            "inference_train",
            "inference_steps",
            "inference_win_rate",
            "best_of_n",
            "inference_length",
        ),
    ),
    "06_score_gap": Stage(
        replicated={
            "reward_model": (),
            "scores/validation.jsonl": (),
            "scores/generated_validation_base.jsonl": (),
            "scores/generated_validation_sft.jsonl": (),
            "scores/generated_validation_dpo.jsonl": (),
            "scores/generated_validation_reference.jsonl": (),
        },
        makes=("metrics/06.json",),
        figures=("score_gap_steps", "score_gap_waterfall", "score_gap_planted"),
    ),
    RECORDED_RUN: Stage(
        makes=("metrics/07.json",),
        figures=("recorded_distributions", "recorded_accuracy", "recorded_length", "recorded_win_rate"),
    ),
    "08_reward_overoptimization": Stage(
        needs={"base": (), "sft": ()},
        replicated={"reward_model": ()},
        makes=("many_replies", "metrics/08.json"),
        figures=("over_gold_proxy", "over_labels_remedies"),
        experiment=True,
    ),
    "09_length_bias": Stage(
        needs={"sft": ("policy_start",)},
        makes=("length_bias", "length_policies", "length_answers.json", "metrics/09.json"),
        figures=("length_remedies", "length_strength", "length_policies"),
        experiment=True,
    ),
    "10_plural_preferences": Stage(
        makes=("metrics/10.json",),
        figures=("plural_groups", "plural_users", "plural_people"),
        experiment=True,
    ),
    "11_dpo_variants": Stage(
        replicated={"sft": ("policy_start",)},
        makes=("variant_policies", "variant_answers.json", "metrics/11.json"),
        figures=("variants_rlhf", "variants_change", "variants_frontier", "variants_trained"),
        experiment=True,
    ),
    "12_hard_pairs": Stage(
        needs={"base": (), "sft": (), "dpo": ()},
        replicated={"reward_model": (), "scores/validation.jsonl": ()},
        makes=("hard", "scores/hard_*.jsonl", "metrics/12.json"),
        figures=("hard_differences", "hard_accuracy"),
    ),
    "13_earlier_replies": Stage(
        makes=("metrics/13.json",), figures=("earlier_riddle", "earlier_signs"), experiment=True
    ),
}


def maker_of(artefact: str, stages: Mapping[str, Stage] = STAGES) -> str:
    """Stem of the notebook that makes an artefact.

    Raises:
        ValueError: none does.
    """
    for stem, stage in stages.items():
        if any(fnmatchcase(artefact, made) for made in stage.makes):
            return stem
    raise InputError(
        f"no notebook makes {artefact!r}: rlhf_hw/pipeline/graph.py says what each of them makes"
    )


def drawn_by(figure: str) -> list[str]:
    """Stems of the notebooks that draw a figure."""
    return [stem for stem, stage in STAGES.items() if figure in stage.figures]


def missing(
    notebook: Path, parameters: Mapping[str, Any], folder: Path, stages: Mapping[str, Stage]
) -> list[str]:
    """What a notebook needs with these parameters, and is not there."""
    needed = stages.get(notebook.stem, Stage()).needed(default_values(notebook) | dict(parameters))
    return [name for name in needed if not (folder / name).exists()]
