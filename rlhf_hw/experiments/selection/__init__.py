"""Choosing hard by a reward: what the best of many replies is truly worth, and how good a reward must be.

`many_replies` is the work with models: replies once sampled, scored and read. From there on everything is
computed from tables: `gold_curves` (gold against proxy, divergence, forecast), `state_heads` (many small
reward models), `ensembles` (as remedies), `suspect_labels` (calibration, flipped labels). `over_expectations`
says what was expected, `reward_overoptimization` puts all into one result.
"""
