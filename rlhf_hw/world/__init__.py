"""The simulated preference world: its texts, its gold reward, its writers, annotators and data files."""
