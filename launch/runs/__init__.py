"""A run and its folder: settings, files, locks, hosts, stopping, logs."""
