"""Runs and studies compared on one page."""
