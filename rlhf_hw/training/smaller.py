"""Smaller trainings of the same kind, for a learning curve: would more pairs help?

sizes = curve_sizes("500,1500", pairs)
configs += [smaller(config, n, folder) for n in sizes for config in configs]
"""

import logging
from pathlib import Path

from rlhf_hw.errors import InputError
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
