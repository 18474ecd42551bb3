"""Where the time of our training steps goes, by kind of operation, and what limits their speed."""

import time
from collections import defaultdict
from pathlib import Path

import torch
from measuring import DTYPES
from systems import tokenized

from rlhf_hw.models.batches import TokenizedGroups, build_batch
from rlhf_hw.models.cpu_speed import keep_freed_memory
from rlhf_hw.models.forward import log_prob_batch, score_batch, use_pair_forward
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.training.losses import bradley_terry

# Operations of torch by kind, by the start of their names; what fits nothing is elementwise arithmetic
KINDS = {
    "weight products": ("aten::mm", "aten::addmm", "mkldnn::"),
    "attention products": ("aten::bmm", "aten::baddbmm", "aten::_scaled_dot"),
    "softmax": ("aten::_softmax", "aten::logsumexp", "aten::_log_softmax"),
    "copies and casts": (
        "aten::copy_",
        "aten::cat",
        "aten::index",
        "aten::gather",
        "aten::scatter",
        "aten::fill_",
        "aten::zero_",
        "aten::embedding",
        "aten::slice_backward",
    ),
    "optimizer and clipping": (
        "aten::_fused_adam",
        "aten::_foreach",
        "aten::linalg_vector_norm",
        "aten::_local",
    ),
}
REST = "elementwise and the rest"


def kind_of(operation: str) -> str:
    """The kind of an operation by its name in torch's profiler."""
    return next((kind for kind, names in KINDS.items() if operation.startswith(names)), REST)


def profile_steps(job: dict) -> dict:
    """Profile our reward-model and DPO steps.

    Args:
        job: `folder` (see `workloads.prepare`), `batch`, `dtype`, `steps` to profile.

    Returns:
        By task: `seconds` a step without the profiler, and by kind of operation its share of the profiled
        time (`share`) and the rate of its products (`flops_per_second`, 0 for other kinds).
    """
    keep_freed_memory()
    folder = Path(job["folder"])
    groups = tokenized(folder, 8 * job["batch"])
    # neighbours in length, as the sampler puts them together; the batch in the middle
    middle = groups.lengths.argsort()[len(groups) // 2 - job["batch"] // 2 :][: job["batch"]]
    models = {
        "rm": use_pair_forward(load_reward_model(folder / "reward"), score_batch),
        "dpo": use_pair_forward(load_policy(folder / "policy"), log_prob_batch),
    }
    return {task: _profile(task, model.train(), groups.select(middle), job) for task, model in models.items()}


def _profile(task: str, model, groups: TokenizedGroups, job: dict) -> dict:
    batch = build_batch(groups, range(len(groups)), 0, targets="replies" if task == "dpo" else "none")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        with torch.autocast("cpu", DTYPES[job["dtype"]], enabled=job["dtype"] != "fp32"):
            outputs = model(**batch)
        bradley_terry(outputs).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):  # the first ones prepare kernels and the optimizer's state
        step()
    start = time.perf_counter()
    for _ in range(job["steps"]):
        step()
    seconds = (time.perf_counter() - start) / job["steps"]
    with torch.profiler.profile() as times:
        for _ in range(job["steps"]):
            step()
    # apart: while torch counts operations it keeps tensors, and all others take new pages
    with torch.profiler.profile(with_flops=True) as counts:
        step()
    spent, flops = defaultdict(float), defaultdict(float)
    for event in times.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total / 1e6
    for event in counts.key_averages():
        kind = kind_of(event.key)
        flops[kind] += job["steps"] * event.flops if kind.endswith("products") else 0
    total = sum(spent.values())
    return {
        "pairs": len(groups),
        "tokens": int(batch["input_ids"].numel()),
        "seconds": seconds,
        "kinds": {
            kind: {"share": value / total, "flops_per_second": flops[kind] / value}
            for kind, value in sorted(spent.items(), key=lambda item: -item[1])
        },
    }
