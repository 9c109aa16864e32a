"""Human3.6M, from the files its owners distribute."""
