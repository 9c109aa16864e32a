"""The settings of a training run: what the core says of the method, and what the run says of itself.

`Train` nests the core's dataclasses (network, objective, optimiser, augmentation) beside those of the run. Flags,
`--help` and `config.json` are derived from it (`launch.cli.options`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, TypeVar

from datasets.tuples import block_numbers, sampling
from datasets.tuples.records import SequenceRow
from launch.cli import options
from launch.cli.options import nested, option
from mcss_jax import method
from mcss_jax.augment import Augmentation
from mcss_jax.errors import UserError
from mcss_jax.method import COUNT, NOT_NEGATIVE, Network, Objective, Optimiser
from mcss_jax.setting import AUTO, CountOrAuto, Role
from mcss_jax.training import accumulation
from mcss_jax.training.parallel import Kind, nearest_multiples

Config = TypeVar("Config", bound="Train")
Cache = Literal["none", "device"]
StreamRooms = Literal["shared", "person"]
MethodName = Literal["mcss", "baseline", "batchnorm"]


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run learns from."""

    dataset: str = option("synthetic_multiview/demo", "Prepared data set, NAME or NAME/CONFIG.")
    data_dir: str = option("data", "Folder of prepared data sets.", changeable=True, roles={Role.OF_HOST})
    unlabelled: str = option(
        "all",
        "Whose pictures are used without labels: all, or subjects with optional fractions of their recordings, as for "
        "--labelled (S1,S5 or S1:0.5, or all:0.25).",
        roles={Role.METHOD},
    )
    labelled: str = option(
        "S1",
        "Whose poses may be used: subjects with optional fractions (S1 or S1,S5 or S1:0.1), none, or all.",
    )
    label_sampling: sampling.LabelSampling = option(
        "uniform",
        "Where a fraction of a subject's labels lies: uniform, evenly spread over all instants; chunk, one stretch "
        "of every sequence, its place drawn from --seed.",
    )
    train_split: str = option("train", "Split to train on.")
    validation_split: str = option(
        "validation", "Split of people whose poses judge the run while it trains; empty for none."
    )
    image_size: int = option(
        0,
        "Side of the network's input, pixels; 0 for the stored size.",
        bounds=NOT_NEGATIVE,
        roles={Role.MEMORY},
    )
    cache: Cache = option(
        "none",
        "device: decode the training split once and keep its pictures on the first device, if they fit.",
        changeable=True,
    )
    stream: bool = option(
        False,
        "Render an endless stream of synthetic people on the accelerator instead of reading --dataset.",
    )
    stream_size: int = option(64, "Side of the streamed pictures, pixels.", roles={Role.MEMORY})
    stream_rooms: StreamRooms = option(
        "shared",
        "Streamed people share one room, or every person has a room, light, cameras and clothes of their own.",
    )


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a batch is made of."""

    labelled_batch: int = option(
        64, "Labelled pictures in a batch.", bounds=NOT_NEGATIVE, roles={Role.MEMORY}
    )
    blocks: CountOrAuto = option(
        AUTO,
        "Blocks in the unlabelled part of a batch; each is one person in one room. auto: by what the data set holds.",
        bounds=COUNT,
        roles={Role.METHOD, Role.MEMORY},
        earlier=4,
    )
    sequences: CountOrAuto = option(
        AUTO, "Sequences in a block.", bounds=COUNT, roles={Role.METHOD}, earlier=4
    )
    instants: CountOrAuto = option(
        AUTO, "Instants of each sequence, two views each.", bounds=COUNT, roles={Role.METHOD}, earlier=6
    )
    accumulate: int = option(
        1,
        "Parts in which a device goes through its batch, for memory; triplets still reach over the whole batch, but "
        "each part is normalised by itself (BatchNorm).",
        bounds=COUNT,
    )
    instant_gap: float = option(
        -1.0,
        "Least seconds between the instants of a sequence in a batch; -1 for --min_negative_gap: then all of them may "
        "be negatives.",
        roles={Role.METHOD},
    )
    mix_groups: bool = option(
        False, "Ablation: unlabelled instants from anywhere instead of blocks.", roles={Role.METHOD}
    )
    positives: sampling.Positives = option(
        "views",
        "The two pictures of an unlabelled instant: views, of two cameras; augmented, an ablation: one picture twice, "
        "augmented independently.",
        roles={Role.METHOD},
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """The run's folder and what happens when."""

    workdir: str = option(
        "", "Folder of the run: settings, checkpoints, logs. Required.", changeable=True, roles={Role.OF_HOST}
    )
    seed: int = option(0, "Seed of weights, batches and augmentation.", bounds=NOT_NEGATIVE)
    init_from: str = option(
        "",
        "Folder of imported weights, or of another run, whose encoder this one starts from; empty for random weights.",
    )
    log_every: int = option(50, "Updates between log lines.", changeable=True, bounds=COUNT)
    validate_every: int = option(
        500, "Updates between validations; 0 for none.", changeable=True, bounds=NOT_NEGATIVE
    )
    validation_stride: int = option(4, "Validate on every n-th instant.", changeable=True, bounds=COUNT)
    save_every: int = option(500, "Updates between checkpoints.", changeable=True, bounds=COUNT)
    keep: int = option(2, "Newest checkpoints to keep.", changeable=True, bounds=COUNT)
    stop_after: int = option(
        0,
        "Stop (and save) after this step of the schedule, as if interrupted; 0 to finish.",
        changeable=True,
        bounds=NOT_NEGATIVE,
    )
    decode_threads: int = option(
        2, "Threads that decode pictures.", changeable=True, bounds=COUNT, roles={Role.OF_HOST}
    )


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a run runs on."""

    parallel: Kind = option(
        "pmap",
        "How a step is spread over devices, with the same result: pmap, shard_map, or jit for one device.",
        changeable=True,
    )
    count: int = option(
        0, "Devices to use on each host; 0 for all.", changeable=True, bounds=NOT_NEGATIVE, flag="devices"
    )
    coordinator_address: str = option(
        "",
        "HOST:PORT of process 0. Not needed where JAX finds out by itself: TPU pods, SLURM, Kubernetes.",
        changeable=True,
        roles={Role.OF_HOST},
    )
    num_processes: int = option(
        0,
        "Processes of the run; 0 asks the cluster, if there is one, and 1 trains alone even there.",
        changeable=True,
        bounds=NOT_NEGATIVE,
    )
    process_id: int = option(
        -1,
        "Number of this process, 0 to num_processes - 1; -1 asks the cluster.",
        changeable=True,
        roles={Role.OF_HOST},
    )
    coordinator_timeout: int = option(
        300,
        "Seconds to wait until all processes have come together.",
        changeable=True,
        bounds=COUNT,
        roles={Role.OF_HOST},
    )


@dataclasses.dataclass(frozen=True)
class Train:
    """See `python -m launch.train --help`."""

    data: Data = nested(Data(), "Data")
    batch: Batch = nested(Batch(), "Batch")
    method: MethodName = option(
        "mcss",
        "mcss: labels and multi-view consistency; baseline: labels alone; batchnorm: a control, unlabelled "
        "pictures pass through BatchNorm and nothing else.",
        "Method",
        roles={Role.METHOD},
    )
    objective: Objective = nested(Objective(), "Method")
    network: Network = nested(Network(), "Network")
    optimiser: Optimiser = nested(Optimiser(), "Optimiser")
    augmentation: Augmentation = nested(Augmentation(), "Augmentation", prefix="augment_")
    run: Run = nested(Run(), "Run")
    devices: Devices = nested(Devices(), "Devices and hosts")


def check(config: Train) -> None:
    """Raises UserError for settings that no data set could satisfy."""
    if not config.run.workdir:
        raise UserError("--workdir is missing; name the folder of the run, for example --workdir=runs/first")
    options.check_values(config)
    gap = config.batch.instant_gap
    if gap != -1 and not 0 <= gap < float("inf"):
        raise UserError(
            f"--instant_gap={gap}; expected a finite number of at least 0, or -1 for --min_negative_gap"
        )
    changes = dataclasses.replace(config.augmentation, flip=False)
    if config.batch.positives == "augmented" and not any(dataclasses.astuple(changes)):
        raise UserError(
            "--positives=augmented needs augmentation, or the two pictures of a pair are the same; raise "
            "--augment_colour, --augment_shift, --augment_scale or --augment_occlusion"
        )
    if config.data.labelled == "none" and config.method != "mcss":
        raise UserError(
            f"--method={config.method} learns from labels alone, but --labelled=none names nobody; "
            "name subjects, or use --method=mcss"
        )
    if config.batch.labelled_batch == 0 and config.method != "mcss":
        raise UserError(
            f"--method={config.method} learns from labels alone, but --labelled_batch=0; expected at least 1"
        )
    _check_hosts(config.devices)


def _check_hosts(devices: Devices) -> None:
    """Raises UserError for flags that do not say all about several processes, or contradict each other."""
    if devices.num_processes <= 1:
        for name in ("coordinator_address", "process_id"):
            value = getattr(devices, name)
            if value != getattr(Devices, name):
                raise UserError(
                    f"--{name}={value} is for several processes, but --num_processes="
                    f"{devices.num_processes}; give their number too"
                )
        return
    host, colon, port = devices.coordinator_address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UserError(
            f"--coordinator_address={devices.coordinator_address!r}; expected HOST:PORT of process 0 with "
            f"--num_processes={devices.num_processes}"
        )
    if not 0 <= devices.process_id < devices.num_processes:
        raise UserError(
            f"--process_id={devices.process_id}; expected 0 to {devices.num_processes - 1} with "
            f"--num_processes={devices.num_processes}"
        )


def check_devices(config: Train, devices: int) -> None:
    """Raises UserError when a part of the batch cannot be split evenly over so many devices, those of all hosts."""
    if config.devices.parallel == "jit" and devices > 1:
        raise UserError(
            f"--parallel=jit is for one device, and there are {devices}; set --devices=1, or another --parallel"
        )
    blocks = blocks_of(config)
    parts = {
        "--labelled_batch": labelled_size(config),
        "--blocks x --sequences x --instants": 0 if blocks is None else blocks.size,
    }
    for name, size in parts.items():
        if size % devices:
            raise UserError(
                f"{name} is {size}; expected a multiple of the {devices} devices: the nearest are "
                f"{nearest_multiples(size, devices)}"
            )
    shares = {f"{name} on each of {devices} devices": size // devices for name, size in parts.items()}
    try:
        accumulation.check_parts(shares, config.batch.accumulate)
    except UserError as error:
        raise UserError(f"--accumulate={config.batch.accumulate}: {error}") from error


def method_of(config: Train) -> method.Method:
    """The library's description of the run."""
    weighted = config.method == "mcss"
    objective = config.objective if weighted else dataclasses.replace(config.objective, metric_weight=0.0)
    return method.Method(config.network, objective, config.optimiser, config.augmentation)


def labelled_size(config: Train) -> int:
    """Labelled pictures in a batch."""
    return 0 if config.data.labelled == "none" else config.batch.labelled_batch


def blocks_of(config: Train) -> sampling.Blocks | None:
    """The make-up of the unlabelled part, or None when the method has none; its numbers are chosen (`with_numbers`)."""
    if config.method == "baseline":
        return None
    batch = config.batch
    assert not has_auto(config), "with_numbers comes first"
    return sampling.Blocks(
        int(batch.blocks),
        int(batch.sequences),
        int(batch.instants),
        gap_of(config),
        batch.mix_groups,
        batch.positives,
    )


def gap_of(config: Train) -> float:
    """Least seconds between the instants of a sequence in a batch."""
    gap = config.batch.instant_gap
    return config.objective.min_negative_gap if gap == -1 else gap


def with_numbers(config: Config, table: Sequence[SequenceRow] | None, devices: int = 1) -> Config:
    """The settings with a number in the place of every `auto`: as a sequence table asks for, or a large one, if None.

    `devices` are those of all hosts, which share a batch evenly.
    """
    if not has_auto(config):
        return config
    given = {name: getattr(config.batch, name) for name in block_numbers.NAMES}
    fixed = {name: int(number) for name, number in given.items() if number != AUTO}
    shares = devices * config.batch.accumulate
    numbers = block_numbers.choose(block_numbers.LARGE if table is None else table, shares, fixed)
    return options.replace(config, **(numbers._asdict() | fixed))


def has_auto(config: Train) -> bool:
    """Whether a number of the unlabelled part is still to be chosen; a baseline has no such part."""
    numbers = config.batch.blocks, config.batch.sequences, config.batch.instants
    return config.method != "baseline" and AUTO in numbers
