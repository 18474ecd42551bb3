"""Training runs: settings, losses, trainers, checkpoints, several processes, the base model."""
