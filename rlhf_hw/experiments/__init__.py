"""What the notebooks ask, one module an experiment: each computes numbers and tables from models and data."""
