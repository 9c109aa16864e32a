"""Predictions for a split and the figures of a run on people it never saw, with their protocol."""
