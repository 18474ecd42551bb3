"""Objective heads with a gate: r(x, y) = sum_k g_k(x) R_k(x, y), the shape of ArmoRM (Wang et al. 2024).

Each head is learned from ratings of one objective, the gate from comparisons: a softmax over the heads that
sees the prompt alone, and one scale. What people disagree about can be told apart by it only where the prompt
tells who asks.
"""

import numpy as np
import torch
from torch.nn.functional import logsigmoid

RIDGE = 1.0  # on each head


def fit_heads(features: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """Ridge regression of each objective's ratings on features.

    Args:
        features: Of replies, shape (n, D), with mean 0.
        ratings: Shape (n, K).

    Returns:
        Shape (D, K); the level of a rating is left out, which no comparison depends on.
    """
    square = features.T @ features + RIDGE * np.eye(features.shape[1])
    return np.linalg.solve(square, features.T @ (ratings - ratings.mean(axis=0)))


def fit_gate(
    margins: np.ndarray, prompts: np.ndarray, outcomes: np.ndarray, *, penalty: float = 0.1
) -> tuple[np.ndarray, float]:
    """The gate's weights and the common scale, by maximum likelihood of the comparisons.

    Args:
        margins: First minus second reply under each head, shape (n, K).
        prompts: Features of the prompt of each comparison, shape (n, P).
        outcomes: 1 where the first reply won, else 0, shape (n,).
        penalty: Ridge on the gate's weights.

    Returns:
        Weights of shape (P, K), and the scale.
    """
    margins, prompts, outcomes = (
        torch.as_tensor(part, dtype=torch.float64) for part in (margins, prompts, outcomes)
    )
    weights = torch.zeros(prompts.shape[1], margins.shape[1], dtype=torch.float64, requires_grad=True)
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, scale], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        gate = torch.softmax(prompts @ weights, dim=1)
        said = logsigmoid(scale.exp() * (gate * margins).sum(dim=1) * (2 * outcomes - 1))
        loss = -said.sum() + 0.5 * penalty * (weights**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach().numpy(), float(scale.detach().exp())


def gate_shares(weights: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """How much each head counts for each prompt, shape (n, K); rows add up to 1."""
    raised = np.exp(prompts @ weights - (prompts @ weights).max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
