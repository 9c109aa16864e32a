"""MCSS in JAX: multiview-consistent semi-supervised learning for 3D human pose, as pure functions."""
