"""Exact search among embeddings and poses, and the figures of retrieval."""
