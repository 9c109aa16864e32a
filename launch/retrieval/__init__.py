"""Cross-view retrieval: protocols, galleries, frame keys, search with the user's own pictures."""
