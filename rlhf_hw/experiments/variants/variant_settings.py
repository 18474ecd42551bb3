"""The losses that are compared, each with its settings; what they share is given to all.

Beta is one for all that have a reference model. SimPO and ORPO weigh other things by it, and take a value of
the range in their papers; DPOP's lambda and R-DPO's price of a token are the defaults of this project.

    kind, settings = variant_settings("cDPO", beta=0.1, told=0.3)
"""

from typing import Any

from rlhf_hw.errors import InputError

HONEST, FLIPPED, SHUFFLED = "honest", "flipped", "shuffled"  # labels: the data's own, some turned, one half
LIKELIHOOD, BOTH, PLAIN = "NLL", "DPO_NLL", "DPO"
LENGTH_SIDE = ("LD_DPO", "SamPO")  # against a taste for length; `length_bias` trains them
VARIANTS = ("DPO", "IPO", "cDPO", "rDPO", "KTO", "SimPO", "ORPO", "R_DPO", "DPOP", BOTH, LIKELIHOOD)
TRIED_ON = {  # labels -> losses that are trained on them, those of the comparison among them
    HONEST: VARIANTS,
    FLIPPED: ("DPO", "IPO", "cDPO", "rDPO"),
    SHUFFLED: (PLAIN, LIKELIHOOD),
}


def variant_settings(name: str, beta: float, told: float) -> tuple[str, dict[str, Any]]:
    """What a loss is trained with.

    Args:
        name: One of `VARIANTS` or `LENGTH_SIDE`; `NLL` is the likelihood of the chosen replies alone.
        beta: The tie to the reference model; IPO's tau.
        told: Share of flipped labels that cDPO and rDPO are told.

    Returns:
        The kind of training, "dpo" or "sft", and the settings of its own.

    Raises:
        UnknownName, InputError: no such loss.
    """
    tied = {"beta": beta}
    known: dict[str, dict[str, Any]] = {
        "DPO": tied,
        "IPO": tied | {"loss": "ipo"},
        "cDPO": tied | {"label_smoothing": told},
        "rDPO": tied | {"loss": "robust", "label_smoothing": told},
        "KTO": tied | {"loss": "kto"},
        "SimPO": {"loss": "simpo", "beta": 2.0, "gamma": 0.5},
        "ORPO": {"loss": "orpo", "beta": 0.25, "nll_weight": 1.0},
        "R_DPO": tied | {"loss": "length_dpo", "length_alpha": 0.01},
        "LD_DPO": tied | {"loss": "ld_dpo", "ld_alpha": 0.5},
        "SamPO": tied | {"loss": "sampo"},
        "DPOP": tied | {"loss": "dpop", "dpop_lambda": 5.0},
        BOTH: tied | {"nll_weight": 1.0},
        LIKELIHOOD: {},
    }
    if name not in known:
        raise InputError(f"no variant {name!r}; choose from {', '.join(known)}")
    return "sft" if name == LIKELIHOOD else "dpo", known[name]


def names_of(text: str) -> tuple[str, ...]:
    """Losses from "DPO,NLL", in the order of `VARIANTS`.

    Raises:
        InputError: one is unknown, or DPO is not among them: all others are held against it.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in VARIANTS:
            raise InputError(f"policy_losses: no variant {name!r}; choose from {', '.join(VARIANTS)}")
    if PLAIN not in names:
        raise InputError(f"policy_losses: the others are compared with {PLAIN}, which is missing in {text!r}")
    return tuple(name for name in VARIANTS if name in names)
