"""Losses, gradients and weights that are not finite stop a run, which names their step and its pairs.

Values are read when that costs nothing: on a processor at once, on a GPU with the next log entry. What a step
held is kept until then, so that the message names the rows to look at, and `not_finite.json` in the run's
folder holds all of them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_hw.errors import RunFailed
from rlhf_hw.files import write_json
from rlhf_hw.training.config import Training
from rlhf_hw.training.distributed import is_main
from rlhf_hw.training.groups import load_pairs, where_it_stands

# beyond it squares overflow in fp32, and with them norms and products
LARGEST_WEIGHT = 1e18
NAMED = 3  # rows in the message
NOT_FINITE = "not_finite.json"


class NotFinite(RunFailed):
    """A value of a step, or a weight after it, is not finite.

    Attributes:
        step: The step, from 1.
        name: What was not finite.
        groups: Indices of the step's groups whose own loss was not finite, or of all of them.
        alone: Whether only such are in `groups`.
    """

    def __init__(self, message: str, step: int, name: str, groups: list[int], alone: bool):
        super().__init__(message)
        self.step, self.name, self.groups, self.alone = step, name, groups, alone


@dataclass
class FiniteValues:
    """The values of a run that have to be finite, until somebody reads them, with what their steps held."""

    parts: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    unread: list[tuple[int, str, Tensor, list[tuple[Tensor, Tensor]]]] = field(default_factory=list)

    def begin_step(self) -> None:
        """Forget what the step before held."""
        self.parts = []

    def hold(self, groups: Tensor, losses: Tensor) -> None:
        """Note a part of this step: which groups, shape (B,), and the loss terms of each, (B, U)."""
        self.parts.append((groups, losses.detach()))

    def must_be_finite(self, step: int, name: str, value: Tensor) -> None:
        """Read a value of this step at once if it is on a processor, else with the next `refuse`."""
        entry = (step, name, value.detach(), self.parts)
        if value.device.type == "cpu":  # DeepSpeed gives the norm so, while the loss lies on its GPU
            self._refuse([entry])
        else:
            self.unread.append(entry)

    def refuse(self) -> None:
        """Raise NotFinite for the first value that is not finite."""
        unread, self.unread = self.unread, []
        self._refuse(unread)

    def _refuse(self, entries: list[tuple]) -> None:
        """Read values that lie on one device."""
        numbers = [value.float().view(()) for _, _, value, _ in entries]
        values = torch.stack(numbers).tolist() if numbers else []
        for (step, name, _, parts), value in zip(entries, values, strict=True):
            if not np.isfinite(value):
                # a first step has learned nothing, at whatever rate
                what = "another model" if step == 1 else "a lower learning_rate"
                raise NotFinite(
                    f"step {step}: the {name} is {value}, and training stops before that spoils the weights; "
                    f"no checkpoint is written. Take {what}, or look at the data",
                    *(step, name, *_to_blame(parts)),
                )

    def refuse_weights(self, model: nn.Module, step: int) -> None:
        """Raise NotFinite where weights to be saved are not finite, or too large to compute with."""
        self.refuse()
        weights = [getattr(p, "ds_tensor", p).detach() for p in model.parameters()]  # ZeRO 3: a share
        if not bool((extremes_of(weights).abs() < LARGEST_WEIGHT).all()):
            raise NotFinite(
                f"after step {step} the weights are not finite, or beyond {LARGEST_WEIGHT:g}; no checkpoint "
                "is written. Take a lower learning_rate",
                *(step, "weights", *_to_blame(self.parts)),
            )


def extremes_of(weights: Iterable[Tensor]) -> Tensor:
    """The least and the largest number of each tensor, shape (W, 2), on the host; empty ones are left out.

    They need not lie on one device: ZeRO 3 with offloading keeps small shares on the GPU, others on the host.
    """
    return torch.stack([torch.stack(w.aminmax()).float().cpu() for w in weights if w.numel()])


def _to_blame(parts: list[tuple[Tensor, Tensor]]) -> tuple[list[int], bool]:
    """Which groups of a step have a loss that is not finite, or else all; and whether only such are named."""
    if not parts:
        return [], False
    groups, losses = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    broken = ~losses.isfinite().all(1)
    return sorted(set((groups[broken] if broken.any() else groups).tolist())), bool(broken.any())


@contextmanager
def naming_rows(config: Training, rows: np.ndarray | None, from_pairs: bool) -> Iterator[None]:
    """Of what is not finite within, also name the rows; `not_finite.json` in the run's folder holds them all.

    Of several processes that stop, one whose own loss is broken comes before the first, which knows of it
    only by the gradient.

    Args:
        config: The run's settings; the training pairs they name are read once more, for where they stand.
        rows: Which of these pairs each group is, shape (G,); None: in their order.
        from_pairs: Whether the run trains on these pairs, and not on conversations that were handed over.
    """
    noted = Path(config.output_dir) / NOT_FINITE
    if is_main():
        noted.unlink(missing_ok=True)
    try:
        yield
    except NotFinite as stop:
        if not stop.groups:
            raise
        numbers = [index if rows is None else int(rows[index]) for index in stop.groups]
        if from_pairs:
            pairs, report = load_pairs(config, "train")
            source = f"{report.source} ({report.split})"
            places = [where_it_stands(pairs[number], source) for number in numbers]
        else:
            places = [f"conversation {number + 1}" for number in numbers]
        found = {"step": stop.step, "name": stop.name, "own_loss": stop.alone, "rows": places}
        if is_main() or stop.alone:
            write_json(noted, found)
        which = "its own loss is not finite in" if stop.alone else "that step held"
        more = f" and {len(places) - NAMED} more, all in {noted}" if len(places) > NAMED else ""
        model = f" (it began with {config.model})" if stop.step == 1 else ""
        raise RunFailed(f"{stop}{model}; {which}: {'; '.join(places[:NAMED])}{more}") from None
