"""Log-probabilities under DPO's reference model: computed once for each content and kept on disk."""

import hashlib
import io
from pathlib import Path

import numpy as np

from rlhf_hw.files import replacing
from rlhf_hw.models.batches import TokenizedGroups
from rlhf_hw.models.hub import hub_commit
from rlhf_hw.models.loading import load_policy, pick_device, pick_dtype
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.paths import RUNS
from rlhf_hw.training.distributed import all_agree, is_main, rank, total, world_size


def content_hash(*parts: bytes | str | Path) -> str:
    """Hash of strings, arrays' bytes and the files of checkpoint folders (weights and configuration)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(
                f for kind in ("*.safetensors", "*.bin", "config.json") for f in part.glob(kind)
            ):
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:24]


def reference_log_probs(
    reference: str | Path,
    groups: TokenizedGroups,
    pad_id: int,
    dtype: str = "auto",
) -> np.ndarray:
    """Log-probabilities under the reference model, computed once and kept on disk by content.

    The key covers the model (of a hub id its commit), the token ids, what each token weighs and the dtype, so
    that no changed model, template, truncation or draw of tokens meets stale numbers; every later run on the
    same content reads the file. Several processes share the work.

    Returns:
        Shape (G, K); where the groups weigh tokens, the weighted sums.
    """
    model_files = Path(reference) if Path(reference).is_dir() else f"{reference}@{hub_commit(str(reference))}"
    offsets = np.ascontiguousarray(groups.offsets - groups.offsets[:, :1])
    per_token = [part for part in (groups.ids, groups.weights) if part is not None]
    rows = [
        np.concatenate([part[a:b] for a, b in groups.offsets[:, [0, -1]]]).tobytes() for part in per_token
    ]
    key = content_hash(model_files, rows[0], offsets.tobytes(), str(pick_dtype(dtype)), *rows[1:])
    path = RUNS / "cache" / f"reference-{key}.npy"
    kept = _kept(path, (len(groups), groups.replies))
    if all_agree(kept is not None):
        return kept
    result = np.zeros((len(groups), groups.replies), dtype=np.float32)
    mine = np.argsort(groups.lengths, kind="stable")[rank() :: world_size()]
    if len(mine):
        model = load_policy(reference).to(pick_device())
        found = log_probs_groups(model, groups.select(mine), pad_id, dtype)
        result[mine] = found if groups.weights is None else found[..., 1]
    result = total(result)
    if is_main():
        whole = io.BytesIO()
        np.save(whole, result)  # into a file it writes past Python, and tells of no full disk
        with replacing(path, "wb") as stream:
            stream.write(whole.getvalue())
    return result


def _kept(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What is kept in a file; None where there is none, or none that is whole."""
    try:
        found = np.load(path)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return found if found.shape == shape else None
