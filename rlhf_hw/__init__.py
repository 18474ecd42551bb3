"""A small laboratory for reward models and direct preference optimization (DPO).

The library's rooms (sub-packages), in the order in which data flows through them:

    world         the simulated preference world: prompts, writers, annotators, and the true ("gold") reward
    preferences   from the rows of a data set to pairs of a chosen and a rejected reply; files of scores
    models        loading, token ids, batches; scores, log-probabilities and replies
    training      reward models, policies and base models: settings, losses, trainers, checkpoints
    experiments   what the notebooks ask of models and data; one module or folder an experiment
    stats         the statistics they use: rates, intervals, calibration, length, comparisons
    figures       what was found, drawn
    pipeline      the notebooks in order: profiles, who needs what, what runs again, the folder of a run
    report        numbers and figures in a text in two languages, typeset

`cli` is the command line, `rlhf-hw`. All rooms may use `paths`, `files` (written whole or not at all),
`errors`, `imports` (who imports whom) and `workers` (the same work in processes side by side). `make house`
draws the rooms and prints their sizes.
"""

import os

# Threads that wait by spinning stall each other as soon as anything else runs on the machine (up to ten
# times slower on two cores); threads that sleep at once cost a quarter of the speed when nothing does.
# GNU's library, the one in torch for Linux, may spin a little first, which avoids most of both. The OpenMP
# library reads this once, so it has to be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
