"""How nbval runs and compares the notebooks, and what may run beside what."""

import os
from pathlib import Path

import pytest

from rlhf_hw.pipeline.graph import STAGES


# take longest, so they begin first and nobody waits for them in the end
LONG = (
    "chain",
    "tests/training/test_distributed.py",
    "tests/world/test_build.py",
    "tests/pipeline/test_runner.py",
    "tests/pipeline/test_staleness.py",
    "tests/report/test_build.py",
    "tests/training/test_run.py",
    "tests/training/test_ragged_processes.py",
)
# nothing random or local slips into the cells' output
KERNELS = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
TRIES = 3  # of starting a kernel: another program may take one of its ports before it does


def pytest_collectstart(collector):
    """Leave out SVG (not reproducible) and standard error (warnings); give kernels their environment."""
    if type(collector).__name__ != "IPyNbFile":
        return
    collector.skip_compare += ("image/svg+xml", "stderr")
    start = collector.setup

    def setup():
        with pytest.MonkeyPatch.context() as patch:
            for name, value in KERNELS.items():
                patch.setenv(name, value)
            for left in reversed(range(TRIES)):
                try:
                    return start()
                except RuntimeError:  # what did not answer has been shut down
                    if not left:
                        raise

    collector.setup = setup


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One process more than processors: those that wait for others, or for a kernel, leave one idle."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With pytest-xdist a file runs in one process, as do the notebooks that read each other's results."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "chain" if file.endswith(".ipynb") and chained(Path(file).stem) else file

        def _assign_work_unit(self, node):
            for scope in reversed([name for name in LONG if name in self.workqueue]):
                self.workqueue.move_to_end(scope, last=False)
            super()._assign_work_unit(node)

    return Files(config, log)


def chained(notebook):
    """Whether a notebook reads what another one makes, or makes what another one reads."""
    stage = STAGES.get(notebook)
    read = {name for other in STAGES.values() for name in (*other.needs, *other.replicated)}
    return bool(stage and (stage.needs or stage.replicated or not read.isdisjoint(stage.makes)))
