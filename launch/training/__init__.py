"""Training: where batches come from, the loop, what it logs and what it says when memory runs out."""
