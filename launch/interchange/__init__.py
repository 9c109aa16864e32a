"""Weights in (safetensors) and trained models out (ONNX, StableHLO)."""
