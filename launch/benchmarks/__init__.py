"""Throughput of this machine, beside its own ceilings and beside other programs."""
