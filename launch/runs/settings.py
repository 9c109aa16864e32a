"""The settings of a training run: one frozen dataclass, its flags, and the method it describes."""

import dataclasses
from typing import Literal

from datasets.tuples import sampling
from launch.cli.flags import option
from mcss_jax import augment, method
from mcss_jax.training import accumulation, parallel

DATA, BATCH, METHOD, NETWORK, OPTIMISER, AUGMENT, RUN, DEVICES = (
    "Data", "Batch", "Method", "Network", "Optimiser", "Augmentation", "Run", "Devices and hosts",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Train:
    """See `python -m launch.train --help`."""

    dataset: str = option("synthetic_multiview/demo", "Prepared data set, NAME or NAME/CONFIG.", DATA)
    data_dir: str = option("data", "Folder of prepared data sets.", DATA, changeable=True)
    labelled: str = option(
        "S1",
        "Whose poses may be used: subjects with optional fractions (S1 or S1,S5 or S1:0.1), none, or all.",
        DATA,
    )
    label_sampling: sampling.LabelSampling = option(
        "uniform",
        "Where a fraction of a subject's labels lies: uniform, evenly spread over all instants; chunk, one stretch "
        "of every sequence, its place drawn from --seed.",
        DATA,
    )
    train_split: str = option("train", "Split to train on.", DATA)
    validation_split: str = option(
        "validation", "Split of people whose poses judge the run while it trains; empty for none.", DATA
    )
    image_size: int = option(0, "Side of the network's input, pixels; 0 for the stored size.", DATA)
    cache: Literal["none", "device"] = option(
        "none",
        "device: decode the training split once and keep its pictures on the first device, if they fit.",
        DATA,
        changeable=True,
    )
    stream: bool = option(
        False,
        "Render an endless stream of synthetic people on the accelerator instead of reading --dataset.",
        DATA,
    )
    stream_size: int = option(64, "Side of the streamed pictures, pixels.", DATA)

    labelled_batch: int = option(64, "Labelled pictures in a batch.", BATCH)
    blocks: int = option(
        4, "Blocks in the unlabelled part of a batch; each is one person in one room.", BATCH
    )
    sequences: int = option(4, "Sequences in a block.", BATCH)
    instants: int = option(6, "Instants of each sequence, two views each.", BATCH)
    accumulate: int = option(
        1,
        "Parts in which a device goes through its batch, for memory; triplets still reach over the whole batch, but "
        "each part is normalised by itself (BatchNorm).",
        BATCH,
    )
    min_negative_gap: float = option(
        0.5,
        "Seconds between an instant and its negatives in the same sequence (not public: our choice).",
        BATCH,
    )
    instant_gap: float = option(
        -1.0,
        "Least seconds between the instants of a sequence in a batch; -1 for --min_negative_gap: then all of them may "
        "be negatives.",
        BATCH,
    )
    mix_groups: bool = option(False, "Ablation: unlabelled instants from anywhere instead of blocks.", BATCH)
    positives: sampling.Positives = option(
        "views",
        "The two pictures of an unlabelled instant: views, of two cameras; augmented, an ablation: one picture twice, "
        "augmented independently.",
        BATCH,
    )

    method: Literal["mcss", "baseline", "batchnorm"] = option(
        "mcss",
        "mcss: labels and multi-view consistency; baseline: labels alone; batchnorm: a control, unlabelled "
        "pictures pass through BatchNorm and nothing else.",
        METHOD,
    )
    margin: float = option(0.5, "Margin of the triplet loss (not public: our choice).", METHOD)
    metric_weight: float = option(1.0, "Weight of the triplet loss (not public: our choice).", METHOD)
    rotation_weight: float = option(1.0, "Weight of the rotation loss.", METHOD)
    across_groups: bool = option(True, "Instants of other people are negatives too.", METHOD)
    temperature_start: float = option(
        0.3, "Softness of the hardest negative at the start; 0 is the hardest.", METHOD
    )
    temperature_end: float = option(0.3, "Softness at the end of the schedule.", METHOD)
    temperature_steps: int = option(0, "Steps from the first to the second; 0 for the whole run.", METHOD)

    depth: Literal[18, 34, 50] = option(18, "ResNet depth.", NETWORK)
    width: int = option(64, "Channels of the first stage; 64 is torchvision's network.", NETWORK)
    stem: Literal["conv", "patch4", "patch8"] = option(
        "conv",
        "conv: 7x7 and max-pooling; patch4, patch8: one linear map of patches, for small pictures.",
        NETWORK,
    )
    embedding_dim: int = option(128, "Length of the embedding (not public: our choice).", NETWORK)
    hidden: int = option(256, "Width of the regressor's hidden layers.", NETWORK)
    precision: Literal["float32", "bfloat16"] = option("float32", "Of the encoder's activations.", NETWORK)
    init_from: str = option(
        "",
        "Folder of imported weights, or of another run, whose encoder this one starts from; empty for random weights.",
        NETWORK,
    )

    steps: int = option(1000, "Updates.", OPTIMISER)
    learning_rate: float = option(2e-3, "Peak learning rate: linear warm-up, then cosine to zero.", OPTIMISER)
    warmup_steps: int = option(100, "Updates of warm-up.", OPTIMISER)
    weight_decay: float = option(1e-2, "AdamW's weight decay, on kernels.", OPTIMISER)
    clip_norm: float = option(1.0, "Largest gradient norm.", OPTIMISER)

    augment_scale: float = option(0.1, "Crop side varies by this fraction.", AUGMENT)
    augment_shift: float = option(0.05, "Crop centre moves by up to this fraction of the side.", AUGMENT)
    augment_colour: float = option(0.5, "Strength of colour changes, 0 to 1.", AUGMENT)
    augment_occlusion: float = option(0.3, "Probability that a rectangle covers part of a view.", AUGMENT)
    augment_flip: bool = option(True, "Mirror half of the instants, left and right exchanged.", AUGMENT)

    workdir: str = option(
        "", "Folder of the run: settings, checkpoints, logs. Required.", RUN, changeable=True
    )
    seed: int = option(0, "Seed of weights, batches and augmentation.", RUN)
    log_every: int = option(50, "Updates between log lines.", RUN, changeable=True)
    validate_every: int = option(500, "Updates between validations; 0 for none.", RUN, changeable=True)
    validation_stride: int = option(4, "Validate on every n-th instant.", RUN, changeable=True)
    save_every: int = option(500, "Updates between checkpoints.", RUN, changeable=True)
    keep: int = option(2, "Newest checkpoints to keep.", RUN, changeable=True)
    stop_after: int = option(
        0,
        "Stop (and save) after this step of the schedule, as if interrupted; 0 to finish.",
        RUN,
        changeable=True,
    )
    decode_threads: int = option(2, "Threads that decode pictures.", RUN, changeable=True)

    parallel: Literal["pmap", "shard_map", "jit"] = option(
        "pmap",
        "How a step is spread over devices, with the same result: pmap, shard_map, or jit for one device.",
        DEVICES,
        changeable=True,
    )
    devices: int = option(0, "Devices to use on each host; 0 for all.", DEVICES, changeable=True)
    coordinator_address: str = option(
        "",
        "HOST:PORT of process 0. Not needed where JAX finds out by itself: TPU pods, SLURM, Kubernetes.",
        DEVICES,
        changeable=True,
    )
    num_processes: int = option(
        0,
        "Processes of the run; 0 asks the cluster, if there is one, and 1 trains alone even there.",
        DEVICES,
        changeable=True,
    )
    process_id: int = option(
        -1, "Number of this process, 0 to num_processes - 1; -1 asks the cluster.", DEVICES, changeable=True
    )
    coordinator_timeout: int = option(
        300, "Seconds to wait until all processes have come together.", DEVICES, changeable=True
    )


def check(config: Train) -> None:
    """Raises ValueError for settings that no data set could satisfy."""
    if not config.workdir:
        raise ValueError("--workdir is missing; name the folder of the run, for example --workdir=runs/first")
    positive = ("steps", "log_every", "save_every", "keep", "validation_stride", "decode_threads", "width")
    sizes = ("accumulate", "blocks", "sequences", "instants", "embedding_dim", "hidden")
    for name in (*positive, *sizes, "coordinator_timeout"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name}={getattr(config, name)}; expected at least 1")
    natural = (
        "image_size",
        "labelled_batch",
        "warmup_steps",
        "validate_every",
        "stop_after",
        "seed",
        "devices",
    )
    for name in (*natural, "num_processes"):
        if getattr(config, name) < 0:
            raise ValueError(f"--{name}={getattr(config, name)}; expected at least 0")
    finite = ("min_negative_gap", "temperature_start", "temperature_end", "metric_weight", "rotation_weight")
    for name in (*finite, "weight_decay"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise ValueError(f"--{name}={getattr(config, name)}; expected a finite number of at least 0")
    if config.instant_gap != -1 and not 0 <= config.instant_gap < float("inf"):
        raise ValueError(
            f"--instant_gap={config.instant_gap}; expected a finite number of at least 0, or -1 for --min_negative_gap"
        )
    for name in ("learning_rate", "clip_norm"):
        if not 0 < getattr(config, name) < float("inf"):
            raise ValueError(f"--{name}={getattr(config, name)}; expected a finite number above 0")
    for name in ("augment_scale", "augment_shift", "augment_colour", "augment_occlusion"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"--{name}={getattr(config, name)}; expected a number from 0 to 1")
    if config.positives == "augmented" and not any(
        (config.augment_scale, config.augment_shift, config.augment_colour, config.augment_occlusion)
    ):
        raise ValueError(
            "--positives=augmented needs augmentation, or the two pictures of a pair are the same; raise "
            "--augment_colour, --augment_shift, --augment_scale or --augment_occlusion"
        )
    if not 0 < config.margin <= 2:
        raise ValueError(f"--margin={config.margin}; expected a number in (0, 2]: embeddings have length one")
    if config.labelled == "none" and config.method != "mcss":
        raise ValueError(
            f"--method={config.method} learns from labels alone, but --labelled=none names nobody; "
            "name subjects, or use --method=mcss"
        )
    if config.labelled_batch == 0 and config.method != "mcss":
        raise ValueError(
            f"--method={config.method} learns from labels alone, but --labelled_batch=0; expected at least 1"
        )
    _check_hosts(config)


def _check_hosts(config: Train) -> None:
    """Raises ValueError for flags that do not say all about several processes, or contradict each other."""
    if config.num_processes <= 1:
        for name, unset in (("coordinator_address", ""), ("process_id", -1)):
            if getattr(config, name) != unset:
                raise ValueError(
                    f"--{name}={getattr(config, name)} is for several processes, but --num_processes="
                    f"{config.num_processes}; give their number too"
                )
        return
    host, colon, port = config.coordinator_address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ValueError(
            f"--coordinator_address={config.coordinator_address!r}; expected HOST:PORT of process 0 with "
            f"--num_processes={config.num_processes}"
        )
    if not 0 <= config.process_id < config.num_processes:
        raise ValueError(
            f"--process_id={config.process_id}; expected 0 to {config.num_processes - 1} with "
            f"--num_processes={config.num_processes}"
        )


def check_devices(config: Train, devices: int) -> None:
    """Raises ValueError when a part of the batch cannot be split evenly over so many devices, those of all hosts."""
    if config.parallel == "jit" and devices > 1:
        raise ValueError(
            f"--parallel=jit is for one device, and there are {devices}; set --devices=1, or another --parallel"
        )
    blocks = blocks_of(config)
    parts = {
        "--labelled_batch": labelled_size(config),
        "--blocks x --sequences x --instants": 0 if blocks is None else blocks.size,
    }
    for name, size in parts.items():
        if size % devices:
            raise ValueError(
                f"{name} is {size}; expected a multiple of the {devices} devices: the nearest are "
                f"{parallel.nearest(size, devices)}"
            )
    shares = {f"{name} on each of {devices} devices": size // devices for name, size in parts.items()}
    try:
        accumulation.check_parts(shares, config.accumulate)
    except ValueError as error:
        raise ValueError(f"--accumulate={config.accumulate}: {error}") from error


def method_of(config: Train) -> method.Method:
    """The library's description of the run."""
    return method.Method(
        network=method.Network(
            depth=config.depth,
            width=config.width,
            embedding_dim=config.embedding_dim,
            stem=config.stem,
            hidden=config.hidden,
            dtype=config.precision,
        ),
        objective=method.Objective(
            margin=config.margin,
            min_negative_gap=config.min_negative_gap,
            across_groups=config.across_groups,
            temperature_start=config.temperature_start,
            temperature_end=config.temperature_end,
            temperature_steps=config.temperature_steps or config.steps,
            metric_weight=config.metric_weight if config.method == "mcss" else 0.0,
            rotation_weight=config.rotation_weight,
        ),
        optimiser=method.Optimiser(
            learning_rate=config.learning_rate,
            warmup_steps=config.warmup_steps,
            steps=config.steps,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
        ),
        augmentation=augment.Augmentation(
            scale=config.augment_scale,
            shift=config.augment_shift,
            colour=config.augment_colour,
            occlusion=config.augment_occlusion,
            flip=config.augment_flip,
        ),
    )


def labelled_size(config: Train) -> int:
    """Labelled pictures in a batch."""
    return 0 if config.labelled == "none" else config.labelled_batch


def blocks_of(config: Train) -> sampling.Blocks | None:
    """The make-up of the unlabelled part, or None when the method has none."""
    if config.method == "baseline":
        return None
    return sampling.Blocks(
        config.blocks,
        config.sequences,
        config.instants,
        config.min_negative_gap if config.instant_gap == -1 else config.instant_gap,
        config.mix_groups,
        config.positives,
    )
