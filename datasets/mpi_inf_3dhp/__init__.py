"""MPI-INF-3DHP: one person, fourteen synchronised cameras, markerless ground truth; and its single-view test set."""
