"""Data sets made from original files, recordings or nothing."""
