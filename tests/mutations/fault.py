"""A single fault: one piece of text in one file of the project becomes another."""

import dataclasses
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Fault:
    """What a careless change could do, and who should notice.

    Attributes:
      name: what goes wrong, in words; `PLACE: WORDS`.
      file: relative to the project.
      old, new: text that stands in the file exactly once, and what it becomes.
      tests: pytest's names (files, or FILE::TEST) of those that should fail; together they take seconds.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self, text: str) -> str:
        """The file's text with the fault in it. Raises ValueError where the text has changed since."""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.file} holds this text {text.count(self.old)} times, expected once: {self.old!r}"
            )
        return text.replace(self.old, self.new)
