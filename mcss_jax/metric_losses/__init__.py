"""Losses that pull the two views of an instant together and push other instants away, by name."""
