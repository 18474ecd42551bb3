"""Read and tokenize the preference pairs that a training run's settings name."""

from rlhf_hw.models.batches import TokenizedGroups, tokenize_preferences
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.reading import DataReport, load_preferences
from rlhf_hw.training.config import Training


def load_groups(
    config: Training, renderer: Renderer, part: str
) -> tuple[TokenizedGroups | None, DataReport | None]:
    """Read and tokenize the training or evaluation pairs of a config; (None, None) when it names none."""
    source, template, split, limit = (
        (config.train_dataset, config.train_template, config.train_split, config.max_train)
        if part == "train"
        else (config.eval_dataset, config.eval_template, config.eval_split, config.max_eval)
    )
    if source is None:
        return None, None
    preferences, report = load_preferences(source, template, split, limit)
    groups, _, counts = tokenize_preferences(preferences, renderer)
    report.dropped["equal after truncation"] += counts.pop("equal_after_truncation")
    report.used = len(groups)
    report.statistics |= {k.replace("_", " "): float(v) for k, v in counts.items()}
    report.statistics |= {
        "prompt tokens, mean": float(groups.prompt_lengths.mean()),
        "reply tokens, mean": float(groups.reply_lengths.mean()),
    }
    return groups, report


def read_groups(config: Training, renderer: Renderer):
    parts = {part: load_groups(config, renderer, part) for part in ("train", "eval")}
    reports = {part: report for part, (_, report) in parts.items() if report is not None}
    return parts["train"][0], parts["eval"][0], reports
