"""A data source for tests, some of whose records are not what was prepared."""

from typing import Any


class Records:
    """A data source over another one, with some records changed."""

    def __init__(self, source: Any, changes: dict[int, Any]) -> None:
        self.source, self.changes = source, changes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        change = self.changes.get(index, {})
        if isinstance(change, Exception):
            raise change
        return {**self.source[index], **change}
