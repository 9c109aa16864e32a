"""The user's own synchronised recordings: a folder per session, or a manifest; no calibration, no labels
needed.
"""
