"""Tensors from a safetensors file; what could run code when it is read is refused, with a safe way out."""

import shlex
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  (gives NumPy the bfloat16 that safetensors asks it for)
import numpy as np
from safetensors import SafetensorError, safe_open

from mcss_jax.errors import UserError

Shape = tuple[int, ...]

FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
MOST_IN_A_SENTENCE = 3  # names of tensors
# A pickle begins with its protocol; PyTorch's older files are one, its newer ones a zip archive with one inside.
PICKLE = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
ZIP, NPY = b"PK", b"\x93NUMPY"

# What converts another format's file, its first argument, into its second.
FROM_TORCH = (
    "import sys, torch; from safetensors.torch import save_file; save_file({k: v.contiguous() for k, v in "
    "torch.load(sys.argv[1], map_location='cpu', weights_only=True).items()}, sys.argv[2])"
)
# safetensors writes the memory of an array as it lies there: in C's order, then. NumPy's own default is float64.
FROM_NUMPY = (
    "import sys, numpy as n; from safetensors.numpy import save_file; save_file({k: n.array(v, 'f4' if v.dtype == 'f8' "
    "else v.dtype, order='C') for k, v in n.load(sys.argv[1], allow_pickle=False).items()}, sys.argv[2])"
)


def convert_command(program: str, source: Path) -> str:
    """One command that turns a file into safetensors beside it, by `FROM_TORCH` or `FROM_NUMPY`."""
    target = source.with_suffix(".converted.safetensors")  # the source may have the plain ending itself
    return f'python -c "{program}" {shlex.quote(str(source))} {shlex.quote(str(target))}'


def _looks_like_safetensors(start: bytes, size: int) -> bool:
    """Eight bytes of header length, little-endian, then a JSON object (the format's README)."""
    return len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= size


def _is_numpy_archive(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _advice(file: Path, start: bytes) -> str | None:
    """What the file is and what to do with it, where that is another format that is known."""
    if start.startswith(NPY):
        return "is a single NumPy array; expected named tensors, as .safetensors"
    if start.startswith(ZIP) and _is_numpy_archive(file):
        return (
            "is a NumPy archive; expected .safetensors: convert it and give the result as --source: "
            f"{convert_command(FROM_NUMPY, file)}"
        )
    if start.startswith((*PICKLE, ZIP)):
        kind = (
            "a pickle" if start.startswith(PICKLE) else "a zip archive, as PyTorch makes them around a pickle"
        )
        return (
            f"is {kind}; reading a pickle can run whatever code it carries, so none is opened here. If its source is "
            "one you trust, convert it on a machine or in a container that holds nothing else, with torch>=2.10 and "
            f"safetensors installed, and give the result as --source: {convert_command(FROM_TORCH, Path(file.name))}"
        )
    return None


def check_format(file: Path) -> None:
    """Tells by its content, not its name, whether a file is safetensors.

    Raises UserError when there is no file, or it is of another format.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}; expected weights as .safetensors")
    with file.open("rb") as opened:
        start = opened.read(9)
    if _looks_like_safetensors(start, file.stat().st_size):
        return
    advice = _advice(file, start)
    if advice is not None:
        raise UserError(f"{file} {advice}")
    raise UserError(
        f"{file} is not a safetensors file (its first bytes are {start.hex(' ') or 'missing'}), or was cut off; "
        "download it again, or give a .safetensors file"
    )


def shapes(file: Path) -> dict[str, Shape]:
    """Names and shapes of the file's tensors; no value is read.

    Raises UserError as `check_format`, and for a file that is damaged or cut off.
    """
    check_format(file)
    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}
    except SafetensorError as error:
        raise UserError(
            f"{file} is damaged or was cut off: {error}; download it again, its header and its size do not agree"
        ) from error


def read(file: Path, wanted: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """The wanted tensors as float32; half precisions are widened, which is exact.

    `wanted` are names and shapes that the file has. Raises UserError for a tensor of another kind of number, and
    when values are not finite, naming the tensors.
    """
    tensors, broken = {}, []
    with safe_open(file, framework="numpy") as opened:
        for name in wanted:
            kind = opened.get_slice(name).get_dtype()
            if kind not in FLOATS:
                raise UserError(
                    f"{file} has {name} as {kind}; expected {', '.join(FLOATS.values())} (safetensors: "
                    f"{', '.join(FLOATS)})"
                )
            tensors[name] = opened.get_tensor(name).astype(np.float32)
            if not np.isfinite(tensors[name]).all():
                broken.append(name)
    if broken:
        raise UserError(
            f"{file} has values that are not finite in {some(broken)}; such weights are damaged, get them anew"
        )
    return tensors


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - MOST_IN_A_SENTENCE
    return ", ".join(names[:MOST_IN_A_SENTENCE]) + (f" and {more} more" if more > 0 else "")
