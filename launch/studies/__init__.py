"""The supervision study: a grid of runs, judged and summed up."""
