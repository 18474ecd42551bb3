"""Two heads on the same states, one for quality and one for length, as in ODIN (Chen et al. 2024).

    L = L_BT(r_Q + r_L) + lambda_L (|rho(r_Q, length)| - rho(r_L, length)) + lambda_O |cos(W_Q, W_L)|

with rho the correlation over all replies of the training pairs. The length head is dropped afterwards. In the
paper the features are trained, too, and the last term is |W_Q W_L^T|, which is the cosine but for the scale.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, logsigmoid

from rlhf_hw.experiments.tabular.policy_classes import smallest

WEIGHT_LENGTH, WEIGHT_ORTHOGONAL = 1.0, 1.0
# |x| as sqrt(x^2 + smooth^2), one after the other: along the kink of |x| itself no optimizer finds its way,
# and where it is stuck depends on the last digit
SMOOTH = (1e-1, 1e-2, 1e-3, 1e-4)


def fit_two_heads(
    states: np.ndarray, words: np.ndarray, outcomes: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the quality head and of the length head, each of shape (D,).

    Args:
        states: Of both replies of each pair, shape (pairs, 2, D).
        words: Their lengths, shape (pairs, 2).
        outcomes: 1 where the first reply won, else 0, shape (pairs,).
        ridge: On both heads, a pair.
    """
    seen = torch.as_tensor(states, dtype=torch.float64)
    flat, gaps = seen.flatten(0, 1), seen[:, 0] - seen[:, 1]
    length = torch.as_tensor(words, dtype=torch.float64).flatten()
    length = (length - length.mean()) / length.std(correction=0).clamp(min=1e-12)
    signs = torch.as_tensor(2 * outcomes - 1, dtype=torch.float64)

    def correlated(rewards: Tensor) -> Tensor:
        centred = rewards - rewards.mean()
        return (centred * length).mean() / (centred.square().mean() + 1e-12).sqrt()

    def loss(both: Tensor, smooth: float) -> Tensor:
        heads = both.reshape(2, -1)
        quality, by_length = (correlated(flat @ head) for head in heads)
        apart = cosine_similarity(heads[0], heads[1], dim=0)
        sizes = (torch.stack([quality, apart]).square() + smooth**2).sqrt()
        weighed = WEIGHT_LENGTH * (sizes[0] - by_length) + WEIGHT_ORTHOGONAL * sizes[1]
        preferred = -logsigmoid((gaps @ heads.T).sum(dim=1) * signs).mean()
        return preferred + weighed + 0.5 * ridge * heads.square().sum()

    # the quality head begins at what wins, the length head at length; where they end does not depend on it
    begin = torch.stack([gaps.T @ signs, flat.T @ length])
    found = (0.1 * begin / begin.norm(dim=1, keepdim=True).clamp(min=1e-12)).ravel().numpy()
    for smooth in SMOOTH:
        found = smallest(partial(loss, smooth=smooth), found)
    return tuple(found.reshape(2, -1))
