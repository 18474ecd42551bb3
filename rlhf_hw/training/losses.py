r"""Losses on pairs, as pure functions of rewards or log-probabilities; each returns one value a pair.

With :math:`r` the rewards of a reward model, and
:math:`h = \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}` for a policy:

| function | loss | source |
|---|---|---|
| `bradley_terry` | :math:`-\log\sigma(r_w - r_l)` | Bradley and Terry 1952; Ouyang et al. 2022, Eq. 1 |
| `bradley_terry_margin` | :math:`-\log\sigma(r_w - r_l - m)` | Touvron et al. 2023, section 3.2.2 |
| `dpo` | :math:`-\log\sigma(\beta h)` | Rafailov et al. 2023, Eq. 7 |
| `ipo` | :math:`(h - 1/(2\beta))^2` | Azar et al. 2024 |
| `robust_dpo` | :math:`-\log\sigma(\beta h)`, corrected for flips | Chowdhury et al. 2024, Eq. 12 |
| `simpo` | as `dpo` with log-probabilities a token, a margin, no reference | Meng et al. 2024, Eq. 6 |

`loss_table` gives them their names and says what each needs. Everywhere the chosen reply stands first.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def difference(values: Tensor) -> Tensor:
    """Chosen minus rejected, (B, 2) to (B,)."""
    return values[:, 0] - values[:, 1]


def bradley_terry(rewards: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood that the chosen reply wins.

    Args:
        rewards: Shape (B, 2), chosen first.
        label_smoothing: Assumed probability e that a label is flipped, 0 <= e < 0.5.

    Returns:
        Loss of each pair, shape (B,).
    """
    margin = difference(rewards)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def bradley_terry_margin(rewards: Tensor, margin: float | Tensor) -> Tensor:
    """Bradley-Terry's loss that asks the chosen reply to win by a margin (Llama 2, section 3.2.2).

    Args:
        rewards: Shape (B, 2), chosen first.
        margin: How far apart the rewards should be: one number, or one a pair, shape (B,). Llama 2 takes
            from 0 ("negligibly better") to 1 or 3 ("significantly better").

    Returns:
        Loss of each pair, shape (B,).
    """
    return -logsigmoid(difference(rewards) - margin)


def mean_square(rewards: Tensor) -> Tensor:
    """Mean squared reward of each pair, (B, 2) to (B,), for a small term beside any reward model's loss.

    Bradley-Terry leaves the level of the rewards open; this pins it near 0 (align-anything's
    `regularization`, 0.001 in the homework).
    """
    return rewards.square().mean(dim=1)


def dpo(log_probs: Tensor, reference: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """DPO's loss; with `label_smoothing` it is cDPO (Mitchell 2023).

    Args:
        log_probs: Log-probabilities of the replies under the policy, shape (B, 2), chosen first.
        reference: The same under the reference model, shape (B, 2).
        beta: Strength of the tie to the reference model.
        label_smoothing: Assumed probability e that a label is flipped, 0 <= e < 0.5.

    Returns:
        Loss of each pair, shape (B,); ln 2 where the policy equals its reference.
    """
    h = difference(log_probs - reference)
    return -(1 - label_smoothing) * logsigmoid(beta * h) - label_smoothing * logsigmoid(-beta * h)


def ipo(log_probs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """IPO's loss, whose optimum is a finite difference; arguments as for `dpo`, with tau as `beta`."""
    return (difference(log_probs - reference) - 1 / (2 * beta)).square()


def robust_dpo(log_probs: Tensor, reference: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """rDPO's loss: averaged over flips at the assumed rate it is `dpo`'s on clean labels; same arguments."""
    h = difference(log_probs - reference)
    kept = (1 - label_smoothing) * -logsigmoid(beta * h) + label_smoothing * logsigmoid(-beta * h)
    return kept / (1 - 2 * label_smoothing)


def simpo(log_probs: Tensor, beta: float, gamma: float) -> Tensor:
    """SimPO's loss, which needs no reference model.

    Args:
        log_probs: Mean log-probability of a token of the replies, log pi(y|x) / |y|, shape (B, 2).
        beta: Scale of the rewards beta / |y| log pi(y|x); 2 to 2.5 in the paper.
        gamma: By how much the chosen reply's reward should be larger; 0.3 to 1.6 in the paper.

    Returns:
        Loss of each pair, shape (B,).
    """
    return -logsigmoid(beta * difference(log_probs) - gamma)


def implicit_rewards(log_probs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """DPO's implicit rewards beta * log(pi / pi_ref), shape (B, 2) (Rafailov et al. 2023, section 4)."""
    return beta * (log_probs - reference)
