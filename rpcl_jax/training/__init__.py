"""Training: the step and its state, the optimizer, checkpoints and logs."""
