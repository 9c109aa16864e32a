"""Opening a prepared set: TFDS reads it only after its own description has been looked at.

TFDS imports whatever module `features.json` names as the class of a feature. A set may come from a stranger, and a
folder `data/` beside the current one makes every file in it importable, so only the classes that a tuple is made of
are let through.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_FEATURES = "tensorflow_datasets.core.features."
CLASSES = frozenset(
    _FEATURES + name
    for name in (
        "features_dict.FeaturesDict",
        "scalar.Scalar",
        "sequence_feature.Sequence",
        "tensor_feature.Tensor",
        "text_feature.Text",
    )
)


def open_builder(path: Path) -> "tfds.core.DatasetBuilder":
    """The TFDS builder of a prepared set in `path` (`DATA_DIR/NAME/CONFIG/VERSION`).

    Raises ValueError naming the file when it is damaged or names a class that no tuple is made of.
    """
    check_classes(path / "features.json")
    # Here, not above: training on a stream goes without TFDS.
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(str(path))


def check_classes(file: Path) -> None:
    """Raises ValueError for a `features.json` that is none, or names a class beside `CLASSES`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{file.parent} is no prepared set: it has no {file.name}; prepare it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not readable as JSON: {error}; prepare the set again") from error
    foreign = sorted(set(class_names(content)) - CLASSES)
    if foreign:
        raise ValueError(
            f"{file} names the class {foreign[0]}, which no set prepared by this project has: reading it would run "
            "foreign code; prepare the set again, or get it from somebody you trust"
        )


def class_names(content: Any) -> Iterator[str]:
    """Every class that a description of features names, at any depth; older TFDS calls the key `type`."""
    parts = [content]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            # Protocol buffers' JSON takes a field by either of its names.
            named = (part.get(key) for key in ("pythonClassName", "python_class_name", "type"))
            yield from (name if isinstance(name, str) else repr(name) for name in named if name is not None)
            parts += part.values()
        elif isinstance(part, list):
            parts += part
