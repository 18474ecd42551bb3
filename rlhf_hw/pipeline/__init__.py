"""Notebooks in order: profiles, the graph of who needs what, the runner, the folder of a run."""
