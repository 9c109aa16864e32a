"""Who is in which split: numbers of synthetic people. Apart from the builder, so that a stream loads no TFDS."""

Splits = dict[str, tuple[int, ...]]

STUDIO: Splits = {"train": (1, 2, 3, 4, 5), "validation": (6,), "test": (7, 8)}
# More people than the studio, each for a shorter time: what a minute of rendering can show a network of clothes and
# builds counts for more than what it can show of one person.
DEMO: Splits = {
    "train": (1, 2, 3, 4, 5, 9, 10, 11, 12, 13),
    "validation": (6, 14),
    "test": (7, 8, 15, 16),
}
# Nobody is tested here whom another set tests: figures of those have been read.
SESSIONS: Splits = {
    "train": (1, 2, 3, 4, 5, 9, 10, 11, 12, 13),
    "validation": (6, 14, 17, 18),
    "test": (19, 20, 21, 22, 23, 24),
}
