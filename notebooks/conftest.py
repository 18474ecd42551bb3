"""What nbval does not compare: SVG (not reproducible) and standard error (progress bars, warnings)."""


def pytest_collectstart(collector):
    """Extend nbval's list of outputs that it skips."""
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += ("image/svg+xml", "stderr")
