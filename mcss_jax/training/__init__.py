"""One update of the state, on one device or on all of them."""
