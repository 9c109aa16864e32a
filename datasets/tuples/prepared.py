"""Opening a prepared set: TFDS reads it only after its own description has been looked at.

TFDS imports whatever module `features.json` names as the class of a feature. A set may come from a stranger, and a
folder `data/` beside the current one makes every file in it importable, so only the classes that a tuple is made of
are let through.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcss_jax.errors import UserError, is_mendable

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


@contextlib.contextmanager
def damage_in_words(read: Path | str) -> Iterator[None]:
    """In words what TFDS and ArrayRecord, which promise no kind of error, raise on damaged files of what is `read`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_mendable(error):  # the operating system's: no damage
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{read} cannot be read as a prepared data set ({reason}); it is damaged, prepare it again with --overwrite"
        ) from error


def open_builder(path: Path) -> "tfds.core.DatasetBuilder":
    """The TFDS builder of a prepared set in `path` (`DATA_DIR/NAME/CONFIG/VERSION`).

    Raises UserError when the set is damaged, none of ours, or names a class that no tuple is made of.
    """
    check_classes(path / "features.json")
    # Here, not above: training on a stream goes without TFDS.
    import tensorflow_datasets as tfds

    with damage_in_words(path):
        builder = tfds.builder_from_directory(str(path))
        metadata = builder.info.metadata
    if not isinstance(metadata, dict) or not {"tables", "specification"} <= set(metadata):
        raise UserError(
            f"{path} holds a data set without sequence tables, which python -m launch.prepare has not made; choose "
            "another --data_dir, or prepare it again with --overwrite"
        )
    return builder


def check_classes(file: Path) -> None:
    """Raises UserError for a `features.json` that is none, or names a class beside `CLASSES`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{file.parent} is no prepared set: it has no {file.name}; prepare it again with --overwrite"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file} is not readable as JSON: {error}; prepare it again with --overwrite"
        ) from error
    foreign = sorted(set(class_names(content)) - CLASSES)
    if foreign:
        raise UserError(
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
