"""Programs: absl flags, one frozen dataclass, a library call."""
