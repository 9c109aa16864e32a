"""What data sets share that are cut out of the files their owners distribute."""
