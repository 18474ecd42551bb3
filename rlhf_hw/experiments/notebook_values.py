"""Values that no notebook can work with, refused before the first one runs.

A profile and `--set` give the notebooks' parameters. Of which type each is, the notebooks declare; what it
may hold, is known here: settings of a training are held to its own (`rlhf_hw.training.config`), all others
to a kind, by their names. A name that no kind lists is a finite number, and a whole one at least 0; of the
whole ones the notebook says what 0 means. Data that lie on this machine have to be there, with their splits.

    refuse_bad_values({"dpo_training": {"beta": 0.1, ...}, ...})
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from rlhf_hw.errors import InputError, UnknownName, one_line
from rlhf_hw.experiments.plural.argument_votes import find_votes
from rlhf_hw.experiments.selection.over_inputs import Variations
from rlhf_hw.experiments.variants.variant_settings import names_of
from rlhf_hw.paths import RUNS, is_of_part, resolve, sources_in
from rlhf_hw.preferences.score_files import parse_mapping
from rlhf_hw.preferences.sources import find_files
from rlhf_hw.preferences.templates import get_template
from rlhf_hw.training.config import DPOTraining, LanguageModelTraining, NewModel, RewardTraining
from rlhf_hw.training.settings import LARGE, MANY, PROCESSES, Settings
from rlhf_hw.training.smaller import curve_sizes, data_by_part, parts_with_models

# what notebooks build of their parameters; their settings of SFT have names of their own, see `KINDS`
TRAININGS: Mapping[str, tuple[type[Settings], ...]] = {
    "base_model": (NewModel, LanguageModelTraining),
    "reward_model_training": (RewardTraining,),
    "dpo_training": (DPOTraining,),
}


def _whole(text: str) -> int:
    """Notebooks read "2" with int, which takes no "2.0"."""
    if not text.isdecimal():
        raise InputError("expected whole numbers, with commas between them")
    return int(text)


# of what a notebook makes one by one or holds in memory all at once; `MANY` is for limits of what there is
MADE = 10**4
LONG = 10**6  # tokens, labels and steps: longer than any reply, and a day of the smallest step
COUNT = Annotated[int, Field(ge=0, le=MANY)]
FINITE = Annotated[float, Field(ge=-LARGE, le=LARGE, allow_inf_nan=False)]
SOME = Annotated[int, Field(ge=1, le=MANY)]
SEVERAL = Annotated[int, Field(ge=2, le=MANY)]
POSITIVE = Annotated[float, Field(gt=0, le=LARGE, allow_inf_nan=False)]
SHARE = Annotated[float, Field(ge=0, le=1)]
NOISE = Annotated[float, Field(ge=0, le=0.5)]
KINDS: Mapping[Any, str] = {
    Annotated[int, Field(ge=0, lt=2**32)]: "seed",
    Annotated[int, Field(ge=-1, le=MANY)]: "max_steps",
    SOME: "batch_size sft_batch_size choice_prompts trial_prompts train_pairs member_pairs candidate_prompts "
    "ranked_step ranked_held_out policy_batch_size policy_prompts",
    Annotated[int, Field(ge=1, le=MADE)]: "replicates within_samples trials draws members fitted candidates "
    "whole_replicates people_draws annotators comparisons known_users user_comparisons new_users worlds "
    "class_features round_replies samples ranked_trainings policy_trainings",
    Annotated[int, Field(ge=0, le=MADE)]: "best_of random_heads within_written",
    Annotated[int, Field(ge=1, le=LONG)]: "max_new_tokens steps anchor_steps",
    Annotated[int, Field(ge=1, le=PROCESSES)]: "num_processes",
    SEVERAL: "max_prompt_tokens max_reply_tokens",
    Annotated[int, Field(ge=2, le=MADE)]: "vote_parts ranked_replies",
    Annotated[int, Field(ge=2, multiple_of=2, le=MADE)]: "replies",
    POSITIVE: "learning_rate sft_learning_rate sft_epochs epochs beta policy_beta policy_rate margin",
    Annotated[float, Field(ge=0, allow_inf_nan=False)]: "kl_budget",  # large: none
    Annotated[float, Field(ge=0, le=LARGE, allow_inf_nan=False)]: "temperature",
    Annotated[float, Field(gt=0, le=1)]: "top_p kept_share",
    SHARE: "share majority",
    Annotated[float, Field(ge=0.5, le=1)]: "agreement",
    NOISE: "flip_rate member_flips flipped_share told_share",
}
# lists of numbers in one text, such as "0.1,0.2"
LISTS: Mapping[Any, str] = {
    Annotated[COUNT, BeforeValidator(_whole)]: "shown",
    Annotated[SOME, BeforeValidator(_whole)]: "head_pairs head_directions",
    Annotated[int, Field(ge=1, le=LONG), BeforeValidator(_whole)]: "labels round_labels",
    POSITIVE: "learning_rates betas round_betas policy_rates",
    FINITE: "strengths",
    SHARE: "shares similarities",
    NOISE: "flips rates",
}
MAY_BE_EMPTY = {"policy_rates"}
# of which the first and the last stand for few and many, or none and most
RISING = {"shown", "head_pairs", "head_directions", "labels", "round_labels", "similarities"}
RISING |= {"flips", "rates"}
# data sets and the splits of them that are read
SPLITS = {"train_dataset": ["train_split"], "eval_dataset": ["eval_split", "ood_split"]}
JUDGED = ("dpo_training", "dpo_inference_analysis", "score_gap")  # they have replies scored by reward models
FEW = 3  # notebooks in a message


def _is_there(text: str) -> None:
    """Refuse the name of a file that is not there, unless a run makes it."""
    path = resolve(text)
    if text and not path.is_relative_to(RUNS) and not os.path.isfile(path):
        raise InputError(f"no file {text!r}: name one that is there, or leave it empty")


def _folders_are_there(text: str) -> None:
    """Refuse folders, several with commas between them, that are not there, unless a run makes them."""
    for part in sources_in(text):
        if not resolve(part).is_relative_to(RUNS) and not os.path.isdir(resolve(part)):
            raise InputError(f"no folder {part!r}: name one that is there, or leave it empty")


def _place_is_there(text: str) -> None:
    """Refuse what names a place of this machine and is none; other names may be those of a hub."""
    for part in sources_in(text):
        here = os.path.isabs(os.path.expanduser(part)) or part.startswith(".")
        if here and not resolve(part).is_relative_to(RUNS) and not os.path.exists(resolve(part)):
            raise InputError(f"{part!r} is not there: name what is, or the id of a hub")


WORDS: Mapping[str, Callable[[str], Any]] = {
    "dtype": TypeAdapter(RewardTraining.model_fields["dtype"].annotation).validate_python,
    "mapping": parse_mapping,
    "policy_losses": names_of,
    "recorded": _folders_are_there,
    "votes": find_votes,
    **dict.fromkeys(("scores", "compare_scores", "scores_base", "scores_dpo"), _is_there),
    **dict.fromkeys(("base_model", "reward_model", "reference_model", "policy_start"), _place_is_there),
    "learning_curve_pairs": lambda text: curve_sizes(text, MANY),
}
# a name that means something else in one notebook: there scores are a folder, elsewhere a file
OWN_WORDS = {
    "earlier_replies": {"scores": _place_is_there},
    "dpo_variants": {"policy_pairs": TypeAdapter(SOME).validate_python},  # 0 is none for others
}
_KIND = {name: TypeAdapter(kind) for kind, names in KINDS.items() for name in names.split()}
_LIST = {name: TypeAdapter(kind) for kind, names in LISTS.items() for name in names.split()}
_OTHER = {int: TypeAdapter(COUNT), float: TypeAdapter(FINITE)}


def refuse_bad_values(notebooks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse values of parameters with which a notebook would fail, or do something else than asked.

    Args:
        notebooks: Notebook -> parameter -> value, of the type that the notebook declares.

    Raises:
        InputError: naming notebooks, parameters, values and what is expected, all in one line.
    """
    found: dict[str, list[str]] = {}
    for notebook, values in notebooks.items():
        for told in _faults(notebook, values):
            found.setdefault(told, []).append(notebook)
    for notebook, told in _of_own_models(notebooks):
        found.setdefault(told, []).append(notebook)
    errors = [f"{told} (notebooks: {_shortened(where)})" for told, where in found.items()]
    if errors:
        raise InputError(f"{'; '.join(errors)}. Give it another value in the profile, or by --set")


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {more} more" if more > 0 else "")


def _faults(notebook: str, values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of a notebook's parameters, each once, its name first."""
    told, known = set(_unused(notebook, values)), set()
    for settings in TRAININGS.get(notebook, ()):
        known |= settings.model_fields.keys()
        for name, message in _of_training(settings, values):
            told.add(name)
            yield _with_value(message, values.get(name))
    words = {**WORDS, **OWN_WORDS.get(notebook, {})}
    checks = [(name, lambda name=name: _check(name, values[name], words, known)) for name in values]
    checks += _of_data(values)
    sampled = {"max_new_tokens", "max_reply_tokens"} <= values.keys()
    if sampled and (notebook in JUDGED or values.get("world")):
        checks.append(("max_new_tokens", lambda: _of_sampled_replies(values)))
    if notebook == "reward_overoptimization":
        checks.append(("flips", lambda: _of_flips(values)))
    for name, check in checks:
        if name in told:
            continue
        try:
            check()
        except (ValidationError, InputError, UnknownName, FileNotFoundError) as error:
            told.add(name)
            message = one_line(error).removeprefix("content: ").removeprefix(f"{name}: ")
            yield _with_value(f"{name}: {message}", values[name])


def _unused(notebook: str, values: Mapping[str, Any]) -> list[str]:
    """Parameters that a notebook does not look at, as others are."""
    if notebook == "dpo_training":
        grid = ["learning_rates", "betas"]
        if values.get("settings_fixed"):
            return [*grid, "choice_prompts"]
        return [] if any("," in str(values.get(name)) for name in grid) else ["choice_prompts"]
    if notebook == "dpo_variants" and not values.get("policy_rates"):
        return ["policy_pairs", "policy_prompts", "choice_prompts"]
    return []


def _of_data(values: Mapping[str, Any]) -> list[tuple[str, Callable[[], Any]]]:
    """What finds the files of each split that a notebook reads, by the parameter of the data set."""
    if any(values.get(name) for name in ("scores", "scores_base", "scores_dpo")):
        return []  # then no data are read
    asked = [(name, values.get(split)) for name, splits in SPLITS.items() for split in splits]
    if values.get("world"):
        asked += [("hard_dataset", split) for split in ("train", "validation")]
    if not values.get("base_model"):
        asked.append(("corpus", "sft"))
    named = ((name, values.get(name) or "", split) for name, split in asked if split)
    return [
        (name, lambda source=source, split=split: _split_is_there(source, split))
        for name, source, split in named
        if source not in ("", "None", "null")
    ]


def _split_is_there(source: str, split: str) -> None:
    """Refuse data sets of this machine that are not there, or lack a split, unless a run makes them."""
    _place_is_there(source)
    for part in sources_in(source):
        if not resolve(part).is_relative_to(RUNS):
            find_files(part, split)


def _of_sampled_replies(values: Mapping[str, Any]) -> None:
    """Refuse limits by which sampled replies would be scored without their last tokens."""
    if values["max_new_tokens"] >= values["max_reply_tokens"]:
        raise InputError(
            "replies of so many tokens, and what closes them, have no room in max_reply_tokens "
            f"{values['max_reply_tokens']}: they would be scored without their end. Raise max_reply_tokens"
        )


def _of_flips(values: Mapping[str, Any]) -> None:
    """Refuse shares of flipped labels among which those are missing that others are compared with."""
    Variations(rates=[float(part) for part in values["flips"].split(",")], flip_rate=values["flip_rate"])


def _of_own_models(notebooks: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Notebooks that do not fit reward models which each know one part of mixed data, and why."""
    values = notebooks.get("reward_model_training", {})
    if not values.get("own_models"):
        return
    try:
        names = parts_with_models(True, values["parts"])
        data_by_part(names, **{key: values[key] for key in SPLITS})
    except InputError as error:
        yield "reward_model_training", str(error)
        return
    first = sources_in(names)[0]
    for name in JUDGED:
        for key in SPLITS:
            told = notebooks.get(name, {})
            listed = [] if told.get("scores_base") else sources_in(told.get(key) or "")
            if others := [source for source in listed if not is_of_part(source, first)]:
                what = f"replies are judged by the reward models of the part {first!r}, which know no other"
                yield name, f"{key}: {what}; name its sources alone, without {', '.join(others)}"


def _with_value(message: str, value: Any) -> str:
    return message if "found" in message or value is None else f"{message}, found {value!r:.60}"


def _of_training(settings: type[Settings], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names of settings of a training that are none, each with what is wrong with it."""
    seed = values["seed"] + max(values.get("replicates", 1) - 1, 0)  # of the last replicate
    own = {"model": "model", "output_dir": RUNS / "none", "seed": seed}
    try:
        settings.from_parameters(values, **{k: v for k, v in own.items() if k in settings.model_fields})
    except ValidationError as error:
        for e in error.errors():
            message = one_line(ValidationError.from_exception_data(error.title, [e]))
            name = str(e["loc"][0]) if e["loc"] else message.partition(":")[0]
            yield name, message


def _check(name: str, value: Any, words: Mapping[str, Callable[[str], Any]], known: AbstractSet[str]) -> None:
    """Refuse a value; of settings of a training, `known`, only what they leave open."""
    if name in _LIST:
        parts = [part.strip() for part in str(value).split(",")]
        found = [
            _LIST[name].validate_python(part) for part in (parts if value or name not in MAY_BE_EMPTY else ())
        ]
        if name in RISING and found != sorted(set(found)):
            raise InputError("expected each number larger than the one before it")
        if name == "rates" and found[0] != 0:
            raise InputError("expected 0 as the first, which the others are compared with")
    elif name in words:
        words[name](value)
    elif name == "deepspeed" and value:
        from rlhf_hw.training.distributed import deepspeed_file  # which takes seconds to load

        deepspeed_file(value)
    elif name.endswith("_template"):
        get_template(value)
    elif type(value) in (int, float) and name not in known:
        _KIND.get(name, _OTHER[type(value)]).validate_python(value)
