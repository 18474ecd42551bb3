"""All figures in one place: `from rlhf_hw import figures`.

Every function takes arrays, tables or dicts of numbers that were computed before, and returns a matplotlib
Figure; `save(figure, folder, name)` writes it as PNG and PDF. The style is in `figure_style`.
"""

from rlhf_hw.figure_style import save
from rlhf_hw.figures_inference import (
    gold_gain,
    inference_distributions,
    planted_matrix,
    scatter,
    waterfall,
    win_rate_forest,
)
from rlhf_hw.figures_scores import (
    accuracy_by_length,
    calibration_curve,
    margin_histogram,
    score_against_length,
    score_distribution,
    side_by_side,
)
from rlhf_hw.figures_training import (
    dpo_log_probabilities,
    dpo_rewards,
    evaluation_curve,
    learning_curve,
    training_curve,
)

__all__ = [
    "accuracy_by_length",
    "calibration_curve",
    "dpo_log_probabilities",
    "dpo_rewards",
    "evaluation_curve",
    "gold_gain",
    "inference_distributions",
    "learning_curve",
    "margin_histogram",
    "planted_matrix",
    "save",
    "scatter",
    "score_against_length",
    "score_distribution",
    "side_by_side",
    "training_curve",
    "waterfall",
    "win_rate_forest",
]
