"""Pure functions on numbers and texts: rates, intervals, calibration, length, comparisons of policies."""
