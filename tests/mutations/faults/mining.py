"""Which instants are negatives, and which of them counts."""

from tests.mutations.fault import Fault

MINING = "mcss_jax/mining.py"
TESTS = ("tests/mcss_jax/test_mining.py",)

FAULTS = (
    Fault(
        "mining: the gap is not read",
        MINING,
        ">= min_gap - TIME_TOLERANCE",
        ">= 0.5 - TIME_TOLERANCE",
        TESTS,
    ),
    Fault(
        "mining: other groups are always negatives",
        MINING,
        "return jnp.where(same_group, apart, across_groups)",
        "return jnp.where(same_group, apart, True)",
        TESTS,
    ),
    Fault(
        "mining: an instant may be its own negative",
        MINING,
        "far & (time[:, None] != other_time[None, :])",
        "far",
        TESTS,
    ),
)
