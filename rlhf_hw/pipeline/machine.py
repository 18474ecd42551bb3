"""What a run was made on: processor, threads, number format, package versions, commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rlhf_hw.paths import ROOT

RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "deepspeed",
    "datasets",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "papermill",
)


def describe_machine(dtype: str) -> dict[str, str | int]:
    """Return processor (or GPU), number of threads and the number format, which the caller knows."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    processor = f"{len(gpus)} x {gpus[0]}" if gpus else processor_name()
    return {"processor": processor, "threads": torch.get_num_threads(), "dtype": dtype}


def processor_name() -> str:
    """Return the processor's model name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape the results."""
    return {"python": platform.python_version()} | {name: _version(name) for name in RECORDED_PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # DeepSpeed, say, where nothing needs it
        return "not installed"


def git_commit() -> str:
    """Return the short commit, with `+` if files differ from it, or "none" outside a git checkout."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return f"{commit}+" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()
