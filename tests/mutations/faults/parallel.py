"""How a step and inference are spread over devices."""

from tests.mutations.fault import Fault

PARALLEL = "mcss_jax/training/parallel.py"
BATCH = "mcss_jax/training/batch.py"
HERE = "tests/mcss_jax/training/test_parallel.py"
GIVEN = (f"{HERE}::test_what_a_replica_is_given",)
EMBEDDED = (f"{HERE}::test_embedding_any_number_of_pictures",)
DEVICES = (f"{HERE}::test_as_many_devices_of_every_process", f"{HERE}::test_devices_in_order")
DIVIDES = (f"{HERE}::test_a_batch_that_does_not_divide",)
SHOWN = (
    "tests/mcss_jax/training/test_step_as_formulas.py::test_what_the_network_is_shown_and_who_gets_its_answers",
)

FAULTS = (
    Fault("parallel: parts ignored", PARALLEL, "parts=accumulate)", "parts=1)", GIVEN),
    Fault(
        "parallel: under pmap every replica is alone",
        PARALLEL,
        "lambda state, batch, rng: body(state, batch, rng, axis_name=AXIS),\n        axis_name=AXIS",
        "lambda state, batch, rng: body(state, batch, rng, axis_name=None),\n        axis_name=AXIS",
        GIVEN,
    ),
    Fault(
        "parallel: under shard_map every replica is alone",
        PARALLEL,
        "lambda state, batch, rng: body(state, batch, rng, axis_name=AXIS),\n            mesh",
        "lambda state, batch, rng: body(state, batch, rng, axis_name=None),\n            mesh",
        GIVEN,
    ),
    Fault(
        "parallel: every device has the whole batch",
        PARALLEL,
        "in_specs=(P(), P(AXIS), P())",
        "in_specs=(P(), P(), P())",
        GIVEN,
    ),
    Fault(
        "parallel: rows are dealt out one by one",
        PARALLEL,
        "x.reshape(parts, x.shape[0] // parts, *x.shape[1:])",
        "x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)",
        GIVEN,
    ),
    Fault(
        "parallel: a step is made for one method",
        PARALLEL,
        "tuple(choose_devices() if devices is None else devices), accumulate)",
        "tuple(choose_devices()), accumulate)",
        GIVEN,
    ),
    Fault(
        "parallel: answers for padding",
        PARALLEL,
        "np.asarray(x).reshape(-1, *x.shape[2:])[:size]",
        "np.asarray(x).reshape(-1, *x.shape[2:])",
        EMBEDDED,
    ),
    Fault(
        "parallel: answers device by device are mixed",
        PARALLEL,
        "np.asarray(x).reshape(-1, *x.shape[2:])[:size]",
        "np.asarray(x).swapaxes(0, 1).reshape(-1, *x.shape[2:])[:size]",
        EMBEDDED,
    ),
    Fault(
        "parallel: no padding of pictures",
        PARALLEL,
        "filled = padded(images, size + -size % len(chosen))",
        "filled = images",
        EMBEDDED,
    ),
    Fault(
        "parallel: the wrong process is named",
        PARALLEL,
        "for choose in (min, max)",
        "for choose in (max, max)",
        DEVICES,
    ),
    Fault(
        "parallel: the last devices instead of the first",
        PARALLEL,
        "for device in devices[:each]]",
        "for device in devices[-each:]]",
        DEVICES,
    ),
    Fault(
        "parallel: a multiple too low is named",
        PARALLEL,
        "below = size // divisor * divisor",
        "below = (size // divisor - 1) * divisor",
        DIVIDES,
    ),
    Fault(
        "batch: unlabelled first",
        BATCH,
        '            "labelled": self.labelled,\n            "unlabelled": self.unlabelled,\n',
        '            "unlabelled": self.unlabelled,\n            "labelled": self.labelled,\n',
        SHOWN,
    ),
    Fault(
        "batch: one view of two",
        BATCH,
        "        return self.images\n",
        "        return self.images[:, :1]\n",
        SHOWN,
    ),
)
