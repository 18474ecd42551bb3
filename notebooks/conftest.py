"""What nbval does not compare, and which notebooks it may run beside each other."""

from pathlib import Path

import pytest

from rlhf_hw.pipeline.graph import STAGES


def pytest_collectstart(collector):
    """Leave out SVG (not reproducible) and standard error (progress bars, warnings)."""
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += ("image/svg+xml", "stderr")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With pytest-xdist, one process runs the notebooks that read each other's results, in their order."""
    from xdist.scheduler import LoadScopeScheduling

    class Notebooks(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            notebook = Path(nodeid.partition("::")[0]).stem
            return "chain" if chained(notebook) else notebook

    return Notebooks(config, log)


def chained(notebook):
    """Whether a notebook reads what another one makes, or makes what another one reads."""
    stage = STAGES.get(notebook)
    read = {name for other in STAGES.values() for name in (*other.needs, *other.replicated)}
    return bool(stage and (stage.needs or stage.replicated or not read.isdisjoint(stage.makes)))
