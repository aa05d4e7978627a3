"""Training: on graphs, MAE pre-training, checkpoints, several processes."""
