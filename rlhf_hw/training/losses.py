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
| `length_dpo` | :math:`-\log\sigma(\beta h + \alpha(|y_w| - |y_l|))` | Park et al. 2024 (R-DPO) |
| `dpop` | as `dpo`, minus :math:`\beta\lambda\max(0, \log(\pi_{ref} / \pi)(y_w))` | Pal et al. 2024 |
| `kto` | :math:`1 - v(y_w) + 1 - v(y_l)`, values of prospect theory | Ethayarajh et al. 2024, Eqs. 7, 8 |
| `orpo` | :math:`-\log\sigma` of the log odds ratio, no reference | Hong et al. 2024, Eqs. 4, 7 |

LD-DPO and SamPO are `dpo` of log-probabilities whose tokens count differently (`token_weights`).
`loss_table` gives them their names and says what each needs. Everywhere the chosen reply stands first.
"""

import torch
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


def length_dpo(log_probs: Tensor, reference: Tensor, lengths: Tensor, beta: float, alpha: float) -> Tensor:
    """R-DPO's loss: DPO for a reward from which `alpha` is taken off for each token.

    With r - alpha |y| in place of r in the objective, DPO's change of variables gives
    r = beta log(pi / pi_ref) + alpha |y| + c(x), hence the sign: a chosen reply that is longer has won part
    of its margin by its length already.

    Args:
        log_probs, reference, beta: As for `dpo`.
        lengths: Tokens of the replies, shape (B, 2).
        alpha: What a token costs, in units of reward; 0 is DPO.

    Returns:
        Loss of each pair, shape (B,).
    """
    return -logsigmoid(beta * difference(log_probs - reference) + alpha * difference(lengths))


def dpop(log_probs: Tensor, reference: Tensor, beta: float, weight: float) -> Tensor:
    """DPO-positive's loss: DPO, and the chosen reply must not become less likely than under the reference.

    Args:
        log_probs, reference, beta: As for `dpo`.
        weight: Lambda, how much a nat that the chosen reply has lost counts; 0 is DPO.

    Returns:
        Loss of each pair, shape (B,); ln 2 where the policy equals its reference.
    """
    lost = (reference - log_probs)[:, 0].clamp(min=0)
    return -logsigmoid(beta * (difference(log_probs - reference) - weight * lost))


def kto(log_probs: Tensor, reference: Tensor, beta: float, point: float | Tensor = 0.0) -> Tensor:
    """KTO's loss of a desirable (chosen) and an undesirable (rejected) reply, added up; both weights are 1.

    Unlike DPO it asks for no difference: each reply is held against the same reference point, and far from
    it on either side nothing is gained any more.

    Args:
        log_probs, reference, beta: As for `dpo`.
        point: z_0, an estimate of KL(pi || pi_ref), 0 or more; no gradient flows through it. The paper takes
            it from replies to other prompts. At 0 the loss is that of APO-zero (D'Oosterlinck et al. 2024).

    Returns:
        Loss of each pair, shape (B,), between 0 and 2; with `point` 0 it is 1 where the policy equals its
        reference.
    """
    gain = beta * (log_probs - reference - point)
    return torch.sigmoid(-gain[:, 0]) + torch.sigmoid(gain[:, 1])


def orpo(log_probs: Tensor) -> Tensor:
    """ORPO's loss without its likelihood of the chosen reply: minus the log-sigmoid of the log odds ratio.

    odds(y) = p / (1 - p) with p the geometric mean of the probabilities of the reply's tokens.

    Args:
        log_probs: Mean log-probability of a token of the replies, below 0, shape (B, 2).

    Returns:
        Loss of each pair, shape (B,); ln 2 where both replies have the same.
    """
    none = torch.finfo(log_probs.dtype).tiny  # a reply that is certain has finite odds
    odds = log_probs - torch.log(-torch.expm1(log_probs).clamp(max=-none))
    return -logsigmoid(difference(odds))


def implicit_rewards(log_probs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """DPO's implicit rewards beta * log(pi / pi_ref), shape (B, 2) (Rafailov et al. 2023, section 4)."""
    return beta * (log_probs - reference)
