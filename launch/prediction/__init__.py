"""Poses and embeddings of the user's own pictures and videos, and the page that shows them."""
