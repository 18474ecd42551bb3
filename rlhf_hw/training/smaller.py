"""Trainings of the same kind on some of the pairs: on the first ones, or on one part of mixed data.

The first are for a learning curve: would more pairs help?

    sizes = curve_sizes("500,1500", pairs)
    configs += [smaller(config, n, folder) for n in sizes for config in configs]

The others give each part of mixed data a model of its own, which learns from its sources alone:

    data_by_part("helpful, harmless", train_dataset="a/helpful-base, a/harmless-base")["harmless"]
    {"train_dataset": "a/harmless-base"}
"""

import logging
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.paths import is_of_part, sources_in
from rlhf_hw.training.config import RewardTraining

log = logging.getLogger(__name__)


def curve_sizes(text: str, pairs: int) -> list[int]:
    """Sizes of the smaller training sets; those that are not smaller are left out, and that is logged.

    A profile names the sizes, but how many pairs there are depends on the data and on `max_train`.

    Args:
        text: numbers of pairs, "500,1500"; empty for none.
        pairs: those of the full model; it is the curve's last point.

    Raises:
        ValueError: not whole numbers above 0.
    """
    parts = [part.strip() for part in str(text).split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"learning_curve_pairs: expected numbers such as '500,1500', found {text!r}")
    sizes = sorted({int(part) for part in parts})
    smaller_ones = [size for size in sizes if size < pairs]
    if smaller_ones != sizes:
        log.warning("learning curve: the full model has %d pairs, so its sizes are %s", pairs, smaller_ones)
    return smaller_ones


def smaller(config: RewardTraining, pairs: int, folder: Path) -> RewardTraining:
    """The settings that train a reward model alike on the first `pairs` of its pairs, without a log.

    Args:
        config: Of the full model.
        pairs: Training pairs.
        folder: Where its checkpoint goes.
    """
    silent = {"log_dir": None, "eval_dataset": None, "report_to": "none", "save_steps": 0, "resume": False}
    return config.model_copy(update=silent | {"max_train": pairs, "output_dir": folder})


def parts_with_models(own_models: bool, names: str) -> str:
    """The names of the parts that have reward models of their own; empty where one serves all.

    Raises:
        InputError: such models are asked for, and no part is named.
    """
    if own_models and not sources_in(names):
        raise InputError(
            "own_models: a reward model for each part is asked for, and `parts` names none; name them, such "
            "as parts='helpful, harmless', or leave own_models out"
        )
    return names if own_models else ""


def data_by_part(names: str, **datasets: str) -> dict[str, dict[str, str]]:
    """Part -> the settings by which its model reads this part alone; without parts one that changes none.

    Args:
        names: The parts, with commas: a part is all sources whose names begin so.
        datasets: Setting -> the data set, sources with commas.
    """
    if not names:
        return {"": {}}
    found = {key: sources_by_part(sources, names) for key, sources in datasets.items()}
    return {part: {key: found[key][part] for key in found} for part in sources_in(names)}


def sources_by_part(sources: str, names: str) -> dict[str, str]:
    """Part -> its sources, again as a list with commas; in the order of the parts' names.

    Args:
        sources: The data set: sources with commas between them.
        names: The parts.

    Raises:
        InputError: a source belongs to no part or to two, or a part has none.
    """
    listed, parts = sources_in(sources), sources_in(names)
    found = {part: [s for s in listed if is_of_part(s, part)] for part in parts}
    lacking = [part for part in parts if not found[part]]
    faults = [f"no source belongs to {', '.join(lacking)}"] if lacking else []
    for source in listed:
        mine = [part for part in parts if source in found[part]]
        if len(mine) != 1:
            faults.append(f"{source} belongs to {' and '.join(mine) or 'no part'}")
    if faults:
        raise InputError(
            f"own_models: parts {names!r} of {sources!r}: {'; '.join(faults)}. A part is all sources whose "
            "names begin so, and each part's model needs some; name them, or set own_models to false"
        )
    return {part: ", ".join(found[part]) for part in parts}
