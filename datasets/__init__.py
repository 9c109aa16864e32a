"""TFDS builders over one shared multi-view tuple, and the plan and pipeline that stream it."""
