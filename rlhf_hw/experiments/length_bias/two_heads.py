"""Two heads on the same states, one for quality and one for length, as in ODIN (Chen et al. 2024).

    L = L_BT(r_Q + r_L) + lambda_L (|rho(r_Q, length)| - rho(r_L, length)) + lambda_O |cos(W_Q, W_L)|

with rho the correlation over all replies of the training pairs. The length head is dropped afterwards. In the
paper the features are trained, too, and the last term is |W_Q W_L^T|, which is the cosine but for the scale.
"""

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, logsigmoid

WEIGHT_LENGTH, WEIGHT_ORTHOGONAL = 1.0, 1.0
STEPS = 200
SMOOTH = 1e-8  # under the root of |.|, whose slope at 0 no optimizer could follow


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
    start = flat.T @ length / len(length)  # the quality head begins at nothing, the length head at length
    heads = torch.stack([1e-3 * start.flip(0), 0.1 * start / start.norm()]).requires_grad_()
    optimizer = torch.optim.LBFGS([heads], max_iter=STEPS, line_search_fn="strong_wolfe")

    def correlated(rewards):
        centred = rewards - rewards.mean()
        return (centred * length).mean() / (centred.square().mean() + 1e-12).sqrt()

    def closure():
        optimizer.zero_grad()
        quality, by_length = (correlated(flat @ head) for head in heads)
        loss = -logsigmoid((gaps @ heads.T).sum(dim=1) * signs).mean()
        loss = loss + WEIGHT_LENGTH * ((quality.square() + SMOOTH).sqrt() - by_length)
        apart = cosine_similarity(heads[0], heads[1], dim=0)
        loss = loss + WEIGHT_ORTHOGONAL * (apart.square() + SMOOTH).sqrt()
        loss = loss + 0.5 * ridge * heads.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return tuple(heads.detach().numpy())
