"""Reward models and policies at work: loading, rendering, batches, scores, log-probabilities, sampling."""
