r"""Losses on pairs, as pure functions of rewards or log-probabilities; each returns one value a pair.

`bradley_terry`: :math:`-\log\sigma(r_w - r_l)` (Bradley and Terry 1952; Ouyang et al. 2022, Eq. 1).
`dpo`: :math:`-\log\sigma(\beta h)` with
:math:`h = \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}`
(Rafailov et al. 2023, Eq. 7), and variants that change the link from :math:`h` to the loss.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf_hw.errors import InputError

DPO_LOSSES = ("sigmoid", "ipo", "robust")


def bradley_terry(rewards: Tensor, label_smoothing: float = 0.0, regularization: float = 0.0) -> Tensor:
    """Negative log-likelihood that the chosen reply wins.

    Args:
        rewards: Shape (B, 2), chosen first.
        label_smoothing: Assumed probability e that a label is flipped, 0 <= e < 0.5.
        regularization: Weight of the mean squared reward. Bradley-Terry leaves the level of the rewards open;
            this pins it near 0 (align-anything's `regularization`, 0.001 in the homework).

    Returns:
        Loss of each pair, shape (B,).
    """
    margin = rewards[:, 0] - rewards[:, 1]
    loss = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return loss + regularization * rewards.square().mean(dim=1)


def dpo(
    log_probs: Tensor, reference: Tensor, beta: float, loss: str = "sigmoid", label_smoothing: float = 0.0
) -> Tensor:
    """DPO's loss or a variant of it.

    Args:
        log_probs: Log-probabilities of the replies under the policy, shape (B, 2), chosen first.
        reference: The same under the reference model, shape (B, 2).
        beta: Strength of the tie to the reference model (tau for "ipo").
        loss: "sigmoid" (DPO; with `label_smoothing` it is cDPO, Mitchell 2023), "ipo"
            ((h - 1/(2 tau))^2, Azar et al. 2024) or "robust" (rDPO, Chowdhury et al. 2024, Eq. 12).
        label_smoothing: Assumed probability that a label is flipped, 0 <= e < 0.5.

    Returns:
        Loss of each pair, shape (B,). With policy = reference, "sigmoid" gives ln 2.
    """
    ratios = log_probs - reference
    h = ratios[:, 0] - ratios[:, 1]
    if loss == "sigmoid":
        return -(1 - label_smoothing) * logsigmoid(beta * h) - label_smoothing * logsigmoid(-beta * h)
    if loss == "ipo":
        return (h - 1 / (2 * beta)).square()
    if loss == "robust":
        kept = (1 - label_smoothing) * -logsigmoid(beta * h) + label_smoothing * logsigmoid(-beta * h)
        return kept / (1 - 2 * label_smoothing)
    raise InputError(f"loss: expected one of {', '.join(DPO_LOSSES)}, found {loss!r}")


def chosen_nll(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Negative log-likelihood of the chosen replies, for a term beside DPO's loss that keeps them likely.

    DPO's own loss asks for a difference only: both replies may become unlikely. Used with a weight of 1 by
    Pang et al. 2024 ("Iterative Reasoning Preference Optimization") and of 0.2 by Llama 3 (section 4.1.4).

    Args:
        log_probs: Log-probabilities of the replies under the policy, shape (B, 2), chosen first.
        lengths: Tokens of the replies, shape (B, 2).

    Returns:
        Shape (B,); its mean is the mean over all tokens of the batch's chosen replies.
    """
    return -log_probs[:, 0] / lengths[:, 0].float().mean()


def implicit_rewards(log_probs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """DPO's implicit rewards beta * log(pi / pi_ref), shape (B, 2) (Rafailov et al. 2023, section 4)."""
    return beta * (log_probs - reference)
