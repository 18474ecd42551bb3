"""The user as a hidden variable that a network reads from a few of the user's comparisons.

Variational preference learning (Poddar et al. 2024): an encoder turns each comparison (features of the chosen
reply minus those of the rejected one) into numbers, their mean over the user's comparisons gives a normal
distribution q(z | comparisons), and the reward is w_z = w + B z. Trained is

    E_q log P(the user's other comparisons | z) - KL(q || N(0, 1)),

with contexts of every size, the empty one among them, for which q is N(0, 1).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


class UserVariable(nn.Module):
    """Encoder of comparisons and reward that depends on the user.

    Args:
        features: Of a reply.
        size: Of z.
        width: Of the encoder's hidden layer.
    """

    def __init__(self, features: int, size: int = 4, width: int = 64) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.head = nn.Linear(width, 2 * size, bias=False)  # without bias: no comparison, z of N(0, 1)
        self.mean = nn.Parameter(torch.zeros(features))
        self.basis = nn.Parameter(0.1 * torch.randn(features, size))

    def encode(self, chosen_minus_rejected: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q for each user, shape (users, size).

        Args:
            chosen_minus_rejected: Shape (users, n, D).
            shown: 1 for the comparisons that are context, else 0, shape (users, n).
        """
        code = self.encoder(chosen_minus_rejected) * shown[..., None]
        # a sum that grows with the root of the count: more comparisons, more that can be known
        joined = code.sum(dim=1) / shown.sum(dim=1, keepdim=True).clamp(min=1)
        amount = torch.log1p(shown.sum(dim=1, keepdim=True))
        mean, log_variance = self.head(joined * amount).chunk(2, dim=-1)
        return mean, log_variance

    def reward(self, z: Tensor) -> Tensor:
        """Weights of the reward, shape (..., D)."""
        return self.mean + z @ self.basis.T

    def weights_for(self, chosen_minus_rejected: np.ndarray) -> np.ndarray:
        """The reward at the mean of q for one user, from comparisons of shape (n, D), n 0 or more; (D,)."""
        context = torch.as_tensor(chosen_minus_rejected, dtype=torch.float32)[None]
        with torch.inference_mode():
            mean, _ = self.encode(context, torch.ones(context.shape[:2]))
            return self.reward(mean)[0].double().numpy()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)), in nats, summed over the last axis."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=-1)


def fit_user_variable(
    comparisons: np.ndarray,
    contexts: Sequence[int],
    *,
    start: np.ndarray,
    size: int = 4,
    steps: int = 600,
    rate: float = 0.01,
    seed: int = 0,
) -> UserVariable:
    """Train on users with equally many comparisons.

    Args:
        comparisons: Features of the chosen reply minus those of the rejected one, shape (users, n, D).
        contexts: Sizes of contexts, drawn anew at each step for each user; the rest is to be foretold.
        start: Reward of all users together, shape (D,), where the mean reward begins.
        size: Of z.
        steps: Of Adam, all users at each.
        rate: Its learning rate, which falls to 0.
        seed: Of weights, contexts and z.
    """
    count, each, width = comparisons.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = UserVariable(width, size)
        model.mean.data = torch.as_tensor(start, dtype=torch.float32)
        table = torch.as_tensor(comparisons, dtype=torch.float32)
        sizes = torch.as_tensor(list(contexts))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        for _ in range(steps):
            order = torch.rand(count, each).argsort(dim=1).argsort(dim=1)
            shown = (order < sizes[torch.randint(len(sizes), (count, 1))]).float()
            mean, log_variance = model.encode(table, shown)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            said = logsigmoid(torch.einsum("und,ud->un", table, model.reward(z)))
            foretold = (said * (1 - shown)).sum(dim=1)
            loss = (divergence(mean, log_variance) - foretold).mean() / each
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()
