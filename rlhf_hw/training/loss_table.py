"""The table of losses on pairs: all that settings, trainers and notebooks know of a loss is its entry here.

A new loss is a formula in `losses` and one `Loss` in `REWARD_LOSSES` or `POLICY_LOSSES`; the flags of
`rlhf-hw train` and the parameter of the notebook then take its name. A setting of its own is a field in
`config`, named in the entry's `settings`, and a line in the notebook's parameters. Data of its own, such as a
margin for each pair, is a column: any number that the template puts into a pair's `meta`.

    entry = POLICY_LOSSES["simpo"]
    entry.value(Pairs(log_probs_per_token, lengths), config)      # (B,)
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from rlhf_hw.training import losses
from rlhf_hw.training.token_weights import beyond_common, drawn_tokens

if TYPE_CHECKING:
    from rlhf_hw.models.batches import TokenizedGroups


@dataclass(frozen=True)
class Pairs:
    """What a loss can read of a batch of B pairs; the chosen reply stands first.

    Attributes:
        outputs: Rewards of the replies, or their log-probabilities under the policy, shape (B, 2).
        lengths: Tokens of the replies, their end tokens included, shape (B, 2).
        reference: Log-probabilities under the reference model, for a loss that needs them, shape (B, 2).
        columns: For each name in the entry's `columns` the pairs' numbers, shape (B,).
    """

    outputs: Tensor
    lengths: Tensor
    reference: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """One loss on pairs. Functions take the training run's settings as `config`.

    Attributes:
        name: Its name in settings, flags and notebooks.
        summary: A few words for `--help`.
        value: (pairs, config) -> loss of each pair, shape (B,).
        rewards: (pairs, config) -> what the loss compares, shape (B, 2); it is logged, with its margin and
            accuracy.
        tie: config -> the loss of a pair whose two rewards are equal, and 0 for a loss that reads the chosen
            reply's own, too (`own_level`); None where that differs among pairs.
        settings: Names of the settings that are its own. One that differs from its default with a loss that
            does not have it is an error.
        needs_reference: Whether it reads `Pairs.reference`; else no reference model is loaded.
        per_token: Whether its log-probabilities are always means over a reply's tokens.
        columns: config -> names of the numbers in the pairs' `meta` that it reads.
        token_weights: (groups, config) -> how much each token counts in `Pairs.outputs` and `reference`, one
            for each of the groups' ids; None: all count alike.
        own_level: Whether it reads more of the rewards than their difference.
        logs: (pairs, config) -> further named values to log, one a pair.
    """

    name: str
    summary: str
    value: Callable[[Pairs, Any], Tensor]
    rewards: Callable[[Pairs, Any], Tensor]
    tie: Callable[[Any], float | None]
    settings: tuple[str, ...] = ()
    needs_reference: bool = False
    per_token: bool = False
    own_level: bool = False
    token_weights: Callable[["TokenizedGroups", Any], np.ndarray] | None = None
    columns: Callable[[Any], tuple[str, ...]] = lambda config: ()
    logs: Callable[[Pairs, Any], dict[str, Tensor]] = lambda pairs, config: {}

    def at_start(self, config: Any) -> float | None:
        """Its value before the first step: a policy then equals its reference, so that every pair is a tie.

        None where the start depends on the models: with another reference model, or without any.
        """
        return self.tie(config) if self.needs_reference and not config.reference_model else None


def _margin(pairs: Pairs, config: Any) -> Tensor:
    """The margin each pair is asked for, shape (B,)."""
    factor = pairs.columns.get(config.margin_key)
    ones = pairs.outputs.new_ones(len(pairs.outputs)) if factor is None else factor
    return config.margin * ones


def _outputs(pairs: Pairs, config: Any) -> Tensor:
    return pairs.outputs


def _implicit(pairs: Pairs, config: Any) -> Tensor:
    return losses.implicit_rewards(pairs.outputs, pairs.reference, config.beta)


def _plain_dpo(pairs: Pairs, config: Any) -> Tensor:
    return losses.dpo(pairs.outputs, pairs.reference, config.beta)


def _ln_2(config: Any) -> float:
    return math.log(2)


def _softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def _table(*entries: Loss) -> dict[str, Loss]:
    return {entry.name: entry for entry in entries}


REWARD_LOSSES = _table(
    Loss(
        name="bradley_terry",
        summary="the chosen reply wins",
        value=lambda pairs, config: losses.bradley_terry(pairs.outputs, config.label_smoothing),
        rewards=_outputs,
        tie=_ln_2,
        settings=("label_smoothing",),
    ),
    Loss(
        name="margin",
        summary="it wins by a margin, Llama 2",
        value=lambda pairs, config: losses.bradley_terry_margin(pairs.outputs, _margin(pairs, config)),
        rewards=_outputs,
        tie=lambda config: None if config.margin_key else _softplus(config.margin),
        settings=("margin", "margin_key"),
        columns=lambda config: (config.margin_key,) if config.margin_key else (),
        logs=lambda pairs, config: {"target_margin": _margin(pairs, config)},
    ),
)

POLICY_LOSSES = _table(
    Loss(
        name="sigmoid",
        summary="DPO, or cDPO with label_smoothing",
        value=lambda pairs, config: losses.dpo(
            pairs.outputs, pairs.reference, config.beta, config.label_smoothing
        ),
        rewards=_implicit,
        tie=_ln_2,
        settings=("beta", "label_smoothing", "average_log_probs", "reference_model"),
        needs_reference=True,
    ),
    Loss(
        name="ipo",
        summary="squared distance to 1 / (2 beta)",
        value=lambda pairs, config: losses.ipo(pairs.outputs, pairs.reference, config.beta),
        rewards=_implicit,
        tie=lambda config: (1 / (2 * config.beta)) ** 2,
        settings=("beta", "average_log_probs", "reference_model"),
        needs_reference=True,
    ),
    Loss(
        name="robust",
        summary="rDPO, unbiased under flipped labels",
        value=lambda pairs, config: losses.robust_dpo(
            pairs.outputs, pairs.reference, config.beta, config.label_smoothing
        ),
        rewards=_implicit,
        tie=_ln_2,
        settings=("beta", "label_smoothing", "average_log_probs", "reference_model"),
        needs_reference=True,
    ),
    Loss(
        name="simpo",
        summary="log-probabilities a token and no reference model; takes a larger beta, such as 2",
        value=lambda pairs, config: losses.simpo(pairs.outputs, config.beta, config.gamma),
        rewards=lambda pairs, config: config.beta * pairs.outputs,
        tie=lambda config: _softplus(config.gamma),
        settings=("beta", "gamma"),
        per_token=True,
    ),
    Loss(
        name="length_dpo",
        summary="R-DPO, takes off a price for each token; rDPO is robust",
        value=lambda pairs, config: losses.length_dpo(
            pairs.outputs, pairs.reference, pairs.lengths, config.beta, config.length_alpha
        ),
        rewards=_implicit,
        tie=lambda config: None,
        settings=("beta", "length_alpha", "average_log_probs", "reference_model"),
        needs_reference=True,
    ),
    Loss(
        name="ld_dpo",
        summary="LD-DPO, tokens beyond the pair's common length count less",
        value=_plain_dpo,
        rewards=_implicit,
        tie=_ln_2,
        settings=("beta", "ld_alpha", "reference_model"),
        needs_reference=True,
        token_weights=lambda groups, config: beyond_common(groups, config.ld_alpha),
    ),
    Loss(
        name="sampo",
        summary="SamPO, of the longer reply as many tokens, drawn at random, as the shorter has",
        value=_plain_dpo,
        rewards=_implicit,
        tie=_ln_2,
        settings=("beta", "reference_model"),
        needs_reference=True,
        token_weights=lambda groups, config: drawn_tokens(groups, config.seed),
    ),
    Loss(
        name="dpop",
        summary="DPO-positive, the chosen reply must not become unlikely",
        value=lambda pairs, config: losses.dpop(
            pairs.outputs, pairs.reference, config.beta, config.dpop_lambda
        ),
        rewards=_implicit,
        tie=_ln_2,
        settings=("beta", "dpop_lambda", "average_log_probs", "reference_model"),
        needs_reference=True,
        own_level=True,
    ),
    Loss(
        name="kto",
        summary="each reply on its own, by prospect theory, its reference point held at 0",
        value=lambda pairs, config: losses.kto(pairs.outputs, pairs.reference, config.beta),
        rewards=_implicit,
        tie=lambda config: 1.0,
        settings=("beta", "average_log_probs", "reference_model"),
        needs_reference=True,
        own_level=True,
    ),
    Loss(
        name="orpo",
        summary="odds ratio, weighed by beta, with nll_weight 1 beside it and no reference model",
        value=lambda pairs, config: config.beta * losses.orpo(pairs.outputs),
        rewards=lambda pairs, config: config.beta * pairs.outputs,
        tie=lambda config: config.beta * math.log(2),
        settings=("beta",),
        per_token=True,
        own_level=True,
    ),
)
