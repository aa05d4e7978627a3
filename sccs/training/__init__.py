"""What learns: graph training, MAE pre-training, checkpoints, several processes."""
