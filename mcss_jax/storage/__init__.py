"""Checkpoints, and a trained run opened as a function of pictures."""
