r"""Likelihood displacement against the similarity of the two replies, in a log-linear model.

Replies share features: :math:`\pi(y) \propto \pi_{ref}(y) \exp(\varphi(y) \cdot w)` with vectors of length 1.
The gradient of a loss of the margin h points along :math:`\delta = \varphi(y_w) - \varphi(y_l)`, so that DPO,
IPO and cDPO all walk the same line, w = c delta, and a margin of h nats is reached at
:math:`c = h / |\delta|^2`. There

.. math:: \log\pi(y_w) - \log\pi_{ref}(y_w) = h/2 - \log E_{ref} \exp(c\,\delta\cdot\varphi) .

The first term is the same for every pair. The second grows as the two replies become alike: the step c
|delta| = h / |delta| is longer, and other replies that lie along delta take the probability (Razin et al.
2025; Pal et al. 2024). The similarity here is the cosine of the two features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax

from rlhf_hw.training.losses import dpo, dpop

ANCHORED = ("DPO", "DPO + NLL", "DPOP")


@dataclass(frozen=True)
class DisplacementWorld:
    """Sizes of the world.

    Attributes:
        replies: Of one prompt, the pair's two among them.
        features: Of each reply.
        similarities: Cosines of chosen and rejected.
        anchored: Those of them at which losses with an anchor are trained, too.
        margin: h in nats, up to which all are trained.
        steps: Of gradient descent at most.
        weight: Of the anchor: lambda of DPOP, and of the likelihood.
    """

    replies: int = 40
    features: int = 16
    similarities: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
    anchored: Sequence[float] = (0.0, 0.95)
    margin: float = 4.0
    steps: int = 2000
    weight: float = 5.0


def draw_replies(world: DisplacementWorld, similarity: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of the reference and features of the replies, chosen and rejected first.

    Worlds of one seed differ in the rejected reply alone.
    """
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(world.replies, world.features))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    chosen, other = features[:2]
    across = other - (other @ chosen) * chosen
    across /= np.linalg.norm(across)
    features[1] = similarity * chosen + np.sqrt(1 - similarity**2) * across
    return log_softmax(rng.normal(size=world.replies)), features


def at_margin(reference: np.ndarray, features: np.ndarray, margin: float) -> np.ndarray:
    """Log-probabilities where DPO has reached a margin, exactly, shape (K,)."""
    towards = features[0] - features[1]
    return log_softmax(reference + features @ towards * margin / (towards @ towards))


def train_anchored(
    name: str, world: DisplacementWorld, reference: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """Log-probabilities after gradient descent up to the margin, or to the last step, of many worlds at once.

    Args:
        name: One of `ANCHORED`, with beta 1.
        world: Sizes.
        reference: Shape (S, K).
        features: Shape (S, K, d).
    """
    old, vectors = torch.from_numpy(reference), torch.from_numpy(features)
    weights = torch.zeros(len(old), vectors.shape[2], dtype=torch.float64, requires_grad=True)
    towards = (vectors[:, 0] - vectors[:, 1]).square().sum(1, keepdim=True)
    # DPO's step goes with how far the two are apart; an anchor pulls as hard, however alike they are
    rate = 2 / towards if name == "DPO" else torch.full_like(towards, 0.5 / (1 + world.weight))
    for _ in range(world.steps):
        log_probs = torch.log_softmax(old + (vectors @ weights[:, :, None])[:, :, 0], dim=1)
        pair, pair_old = log_probs[:, :2], old[:, :2]
        reached = (pair - pair_old)[:, :1] - (pair - pair_old)[:, 1:] >= world.margin
        if reached.all():
            break
        loss = dpop(pair, pair_old, 1.0, world.weight) if name == "DPOP" else dpo(pair, pair_old, 1.0)
        if name == "DPO + NLL":
            loss = loss - world.weight * pair[:, 0]
        (gradient,) = torch.autograd.grad(loss.sum(), weights)
        with torch.no_grad():
            weights -= rate * gradient * ~reached
    return log_probs.detach().numpy()


def measure_displacement(world: DisplacementWorld, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """All worlds.

    Returns:
        By similarity, each of shape (S,): `change.<percent>`, how log pi of the chosen reply has changed at
        the margin; `others.<percent>`, the probability that replies outside the pair have gained;
        `<loss>.<percent>`, the change with an anchor, and `<loss>.margin.<percent>`, the margin reached.
    """
    found = {}
    for similarity in world.similarities:
        drawn = [draw_replies(world, similarity, seed) for seed in seeds]
        ends = np.array([at_margin(reference, features, world.margin) for reference, features in drawn])
        starts = np.array([reference for reference, _ in drawn])
        percent = round(100 * similarity)
        found[f"change.{percent}"] = (ends - starts)[:, 0]
        found[f"others.{percent}"] = (np.exp(ends) - np.exp(starts))[:, 2:].sum(axis=1)
        if similarity not in world.anchored:
            continue
        features = np.array([vectors for _, vectors in drawn])
        for name in ANCHORED:
            moved = train_anchored(name, world, starts, features) - starts
            found[f"{name}.{percent}"] = moved[:, 0]
            found[f"{name}.margin.{percent}"] = moved[:, 0] - moved[:, 1]
    return found
