"""What every program shares: flags, errors and exit codes, progress, what is set before JAX starts."""
