"""Augmentation, random streams, optimiser, first state, and what surrounds the loss in a step."""

from tests.mutations.fault import Fault

FORMULAS = "tests/mcss_jax/training/test_settings_as_formulas.py"
STEP = "tests/mcss_jax/training/test_step_as_formulas.py"
PICTURES = (f"{FORMULAS}::test_pictures",)
UPDATES = (f"{FORMULAS}::test_updates",)
RATES = (f"{FORMULAS}::test_learning_rates_of_a_run",)
KEYS = (f"{STEP}::test_every_sample_has_a_key_of_its_own_in_every_step",)
SHOWN = (f"{STEP}::test_what_the_network_is_shown_and_who_gets_its_answers",)
INFERENCE = (f"{STEP}::test_inference_undoes_the_standardisation_of_poses",)
MEANS = (f"{STEP}::test_replicas_take_the_mean_of_gradients_and_statistics_and_the_sum_of_sums",)
FRESH = (f"{STEP}::test_a_fresh_state",)
STREAMS = (f"{STEP}::test_streams_are_what_they_have_always_been",)
ACCUMULATED = "tests/mcss_jax/training/test_accumulation.py"
PARTS = (f"{ACCUMULATED}::test_the_large_batch_with_the_same_groups",)
CUT = (f"{ACCUMULATED}::test_cutting_takes_every_row_once",)
DIVIDES = (f"{ACCUMULATED}::test_parts_that_do_not_divide",)
STATISTICS = ("tests/mcss_jax/training/test_train_step.py::test_pose_statistics",)

AUGMENT = "mcss_jax/augment.py"
OPTIMISER = "mcss_jax/training/optimiser.py"
STATE = "mcss_jax/training/state.py"
TRAIN_STEP = "mcss_jax/training/train_step.py"
ACCUMULATION = "mcss_jax/training/accumulation.py"
STREAMS_FILE = "mcss_jax/streams.py"

FAULTS = (
    # -------- augmentation
    Fault(
        "augmentation: scale ignored",
        AUGMENT,
        "side = size * (1.0 + config.scale * draws[0])",
        "side = size * (1.0 + 0.1 * draws[0])",
        PICTURES,
    ),
    Fault(
        "augmentation: shift ignored",
        AUGMENT,
        "size * config.shift * draws[1:]",
        "size * 0.05 * draws[1:]",
        PICTURES,
    ),
    Fault(
        "augmentation: shift is the same along both axes",
        AUGMENT,
        "size * config.shift * draws[1:]",
        "size * config.shift * draws[1:2]",
        PICTURES,
    ),
    Fault(
        "augmentation: shift and scale share a draw",
        AUGMENT,
        "size * config.shift * draws[1:]",
        "size * config.shift * draws[:2]",
        PICTURES,
    ),
    Fault(
        "augmentation: crops only grow",
        AUGMENT,
        "draws = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)",
        "draws = jax.random.uniform(key, (3,), minval=0.0, maxval=1.0)",
        PICTURES,
    ),
    Fault(
        "augmentation: the crop is not centred",
        AUGMENT,
        "return (size - side) / 2 +",
        "return (size - side) / 4 +",
        PICTURES,
    ),
    Fault(
        "augmentation: colour ignored",
        AUGMENT,
        "*_colours(colour, config.colour)",
        "*_colours(colour, 0.5)",
        PICTURES,
    ),
    Fault(
        "augmentation: brightness is not scaled by the strength",
        AUGMENT,
        "        80 * draws[3],\n",
        "        80 * draws[3] / strength,\n",
        PICTURES,
    ),
    Fault(
        "augmentation: contrast about black",
        AUGMENT,
        "128.0 * (1 - contrast) + brightness",
        "0.0 * contrast + brightness",
        PICTURES,
    ),
    Fault(
        "augmentation: hue turns only one way",
        AUGMENT,
        "jnp.pi * draws[0]",
        "jnp.pi * jnp.abs(draws[0])",
        PICTURES,
    ),
    Fault(
        "augmentation: saturation left out",
        AUGMENT,
        "contrast * (grey + saturation * turn)",
        "contrast * (grey + turn)",
        PICTURES,
    ),
    Fault(
        "augmentation: channels of the colour map exchanged",
        AUGMENT,
        "change.matrix[:, channel, :, None, None]",
        "change.matrix[:, :, channel, None, None]",
        PICTURES,
    ),
    Fault("augmentation: colours are not clipped", AUGMENT, "jnp.clip(x, 0.0, 255.0))", "x)", PICTURES),
    Fault(
        "augmentation: occlusion ignored",
        AUGMENT,
        "*_occluder(occlusion, size, config.occlusion)",
        "*_occluder(occlusion, size, 0.3)",
        PICTURES,
    ),
    Fault(
        "augmentation: occluders as often as not said",
        AUGMENT,
        "draws[4] < probability",
        "draws[4] > probability",
        PICTURES,
    ),
    Fault(
        "augmentation: occluders are squares",
        AUGMENT,
        "extent = size * (0.1 + 0.3 * draws[0:2])",
        "extent = size * (0.1 + 0.3 * draws[0:1]) * jnp.ones(2)",
        PICTURES,
    ),
    Fault(
        "augmentation: rows and columns of the occluder exchanged",
        AUGMENT,
        "change.covered_rows[:, :, None] & change.covered_columns[:, None, :]",
        "change.covered_columns[:, :, None] & change.covered_rows[:, None, :]",
        PICTURES,
    ),
    Fault("augmentation: flip ignored", AUGMENT, "& config.flip", "& True", PICTURES),
    Fault(
        "augmentation: flips are not said",
        AUGMENT,
        "return pixels.reshape(images.shape), box, flipped",
        "return pixels.reshape(images.shape), box, ~flipped",
        PICTURES,
    ),
    Fault(
        "augmentation: everything is mirrored",
        AUGMENT,
        "jax.random.uniform(flip_key) < 0.5",
        "jax.random.uniform(flip_key) < 1.5",
        PICTURES,
    ),
    Fault(
        "augmentation: pictures are not mirrored though said",
        AUGMENT,
        "jnp.where(flipped, row[::-1], row)",
        "jnp.where(flipped, row, row)",
        PICTURES,
    ),
    Fault(
        "augmentation: views of an instant share one",
        AUGMENT,
        "draw(jax.random.split(view_key, views), boxes)",
        "draw(jnp.broadcast_to(view_key, (views,)), boxes)",
        PICTURES,
    ),
    Fault(
        "augmentation: instants share one",
        AUGMENT,
        "jax.vmap(instant)(keys, box)",
        "jax.vmap(instant)(jnp.broadcast_to(keys[0], keys.shape), box)",
        PICTURES,
    ),
    Fault(
        "augmentation: crop and colours share a key",
        AUGMENT,
        "*_colours(colour, config.colour)",
        "*_colours(crop, config.colour)",
        PICTURES,
    ),
    Fault(
        "augmentation: rows and columns of the crop exchanged",
        AUGMENT,
        "_resampling(corner[1], side, row),",
        "_resampling(corner[0], side, row),",
        PICTURES,
    ),
    Fault(
        "augmentation: the box is not cropped",
        AUGMENT,
        "box = jnp.concatenate([low, low + extent * side / size])",
        "box = 1.0 * box",
        PICTURES,
    ),
    Fault(
        "augmentation: the box keeps its size",
        AUGMENT,
        "low + extent * side / size",
        "low + extent",
        PICTURES,
    ),
    Fault(
        "augmentation: half a pixel off",
        AUGMENT,
        "start + (output + 0.5) * side / size - 0.5",
        "start + output * side / size",
        PICTURES,
    ),
    Fault(
        "augmentation: nearest pixel instead of bilinear",
        AUGMENT,
        "return jnp.maximum(1.0 - jnp.abs(distance), 0.0)",
        "return (jnp.abs(distance) <= 0.5).astype(jnp.float32)",
        PICTURES,
    ),
    Fault(
        "augmentation: black beyond the picture",
        AUGMENT,
        "jnp.clip(centre, 0.0, size - 1.0)[:, None]",
        "centre[:, None]",
        PICTURES,
    ),
    # -------- random streams
    Fault(
        "streams: one for every purpose",
        STREAMS_FILE,
        "zlib.crc32(purpose.encode())",
        "0 * zlib.crc32(purpose.encode())",
        STREAMS,
    ),
    Fault("streams: one for every seed", STREAMS_FILE, "jax.random.key(seed)", "jax.random.key(0)", STREAMS),
    Fault(
        "streams: labelled and unlabelled share theirs",
        TRAIN_STEP,
        '{"labelled": 0, "unlabelled": 1}',
        '{"labelled": 0, "unlabelled": 0}',
        KEYS,
    ),
    Fault(
        "streams: keys are not folded with the step",
        TRAIN_STEP,
        "jax.random.fold_in(jax.random.fold_in(rng, step), stream)",
        "jax.random.fold_in(jax.random.fold_in(rng, 0), stream)",
        KEYS,
    ),
    Fault(
        "streams: keys are not folded with the part",
        TRAIN_STEP,
        "jax.random.fold_in(jax.random.fold_in(rng, step), stream)",
        "jax.random.fold_in(rng, step)",
        KEYS,
    ),
    Fault(
        "streams: keys are not folded with the sample",
        TRAIN_STEP,
        "jax.random.fold_in(key, index))(sample)",
        "jax.random.fold_in(key, 0 * index))(sample)",
        KEYS,
    ),
    Fault(
        "streams: samples are counted in the part of a replica",
        TRAIN_STEP,
        "keys = _keys(rng, state.step, part.sample, STREAMS[name])",
        "keys = _keys(rng, state.step, jnp.arange(len(part.sample)), STREAMS[name])",
        KEYS,
    ),
    # -------- forward and inference
    Fault(
        "forward: not augmented",
        TRAIN_STEP,
        "        crops[name] = Crop(",
        "        images[name] = part.views.astype(jnp.float32)\n        crops[name] = Crop(",
        SHOWN,
    ),
    Fault(
        "forward: augmentation is the default one",
        TRAIN_STEP,
        "part.boxes, method.augmentation)",
        "part.boxes, type(method.augmentation)())",
        SHOWN,
    ),
    Fault(
        "forward: frozen statistics in training",
        TRAIN_STEP,
        "        True,\n        mutable=list(state.collections),",
        "        False,\n        mutable=list(state.collections),",
        SHOWN,
    ),
    Fault(
        "forward: normalised by itself on every replica",
        TRAIN_STEP,
        "PoseNetwork(state.network, axis_name)",
        "PoseNetwork(state.network, None)",
        SHOWN,
    ),
    Fault("forward: parts exchanged", TRAIN_STEP, "        start = rows.stop\n", "", SHOWN),
    Fault(
        "forward: the box before augmentation",
        TRAIN_STEP,
        "Crop(box[:, 0], flipped)",
        "Crop(part.boxes[:, 0], flipped)",
        SHOWN,
    ),
    Fault(
        "forward: pixels are not standardised",
        TRAIN_STEP,
        "standardise(jnp.concatenate([x.reshape(-1, *x.shape[2:]) for x in images.values()]))",
        "jnp.concatenate([x.reshape(-1, *x.shape[2:]) for x in images.values()])",
        SHOWN,
    ),
    Fault(
        "inference: statistics of the batch",
        TRAIN_STEP,
        "standardise(images), False)",
        "standardise(images), True)",
        INFERENCE,
    ),
    Fault(
        "inference: scale left out",
        TRAIN_STEP,
        "Prediction(embedding, standardised * scale + mean[None],",
        "Prediction(embedding, standardised + mean[None] + 0 * scale,",
        INFERENCE,
    ),
    Fault(
        "inference: mean pose left out",
        TRAIN_STEP,
        "Prediction(embedding, standardised * scale + mean[None],",
        "Prediction(embedding, standardised * scale + 0 * mean[None],",
        INFERENCE,
    ),
    Fault(
        "inference: pixels are not standardised",
        TRAIN_STEP,
        ".apply(state.variables, standardise(images), False)",
        ".apply(state.variables, images.astype(jnp.float32), False)",
        INFERENCE,
    ),
    # -------- optimiser
    Fault(
        "optimiser: no clipping",
        OPTIMISER,
        "        optax.clip_by_global_norm(optimiser.clip_norm),\n",
        "        optax.identity(),\n",
        UPDATES,
    ),
    Fault(
        "optimiser: clip value ignored",
        OPTIMISER,
        "optax.clip_by_global_norm(optimiser.clip_norm)",
        "optax.clip_by_global_norm(1.0)",
        UPDATES,
    ),
    Fault(
        "optimiser: every number is clipped by itself",
        OPTIMISER,
        "optax.clip_by_global_norm(optimiser.clip_norm)",
        "optax.clip(optimiser.clip_norm)",
        UPDATES,
    ),
    Fault(
        "optimiser: everything decays",
        OPTIMISER,
        'path[-1].key == "kernel"',
        'path[-1].key != ""',
        UPDATES,
    ),
    Fault(
        "optimiser: biases decay",
        OPTIMISER,
        'path[-1].key == "kernel"',
        'path[-1].key in ("kernel", "bias")',
        UPDATES,
    ),
    Fault(
        "optimiser: what is not a kernel decays",
        OPTIMISER,
        'path[-1].key == "kernel"',
        'path[-1].key != "kernel"',
        UPDATES,
    ),
    Fault(
        "optimiser: decay ignored",
        OPTIMISER,
        "weight_decay=optimiser.weight_decay",
        "weight_decay=1e-2",
        UPDATES,
    ),
    Fault(
        "optimiser: no decay", OPTIMISER, "weight_decay=optimiser.weight_decay", "weight_decay=0.0", UPDATES
    ),
    Fault(
        "optimiser: learning rate constant",
        OPTIMISER,
        "optax.adamw(schedule(optimiser)",
        "optax.adamw(optimiser.learning_rate",
        UPDATES,
    ),
    Fault(
        "optimiser: learning rate ignored",
        OPTIMISER,
        "0.0, optimiser.learning_rate, warmup,",
        "0.0, 2e-3, warmup,",
        RATES,
    ),
    Fault(
        "optimiser: warm-up ignored",
        OPTIMISER,
        "warmup = min(optimiser.warmup_steps, optimiser.steps // 2)",
        "warmup = 0",
        RATES,
    ),
    Fault(
        "optimiser: warm-up of any length",
        OPTIMISER,
        "warmup = min(optimiser.warmup_steps, optimiser.steps // 2)",
        "warmup = optimiser.warmup_steps",
        RATES,
    ),
    Fault(
        "optimiser: warm-up does not start at zero",
        OPTIMISER,
        "        0.0, optimiser.learning_rate, warmup,",
        "        0.1 * optimiser.learning_rate, optimiser.learning_rate, warmup,",
        RATES,
    ),
    Fault(
        "optimiser: the cosine does not reach zero",
        OPTIMISER,
        "max(optimiser.steps, warmup + 1)\n",
        "2 * max(optimiser.steps, warmup + 1)\n",
        RATES,
    ),
    Fault(
        "optimiser: the cosine ends above zero",
        OPTIMISER,
        "max(optimiser.steps, warmup + 1)\n",
        "max(optimiser.steps, warmup + 1), 0.1 * optimiser.learning_rate\n",
        RATES,
    ),
    Fault(
        "optimiser: Adam instead of AdamW",
        OPTIMISER,
        "optax.adamw(schedule(optimiser), weight_decay=optimiser.weight_decay, mask=kernels)",
        "optax.add_decayed_weights(optimiser.weight_decay, kernels),\n        optax.adam(schedule(optimiser))",
        UPDATES,
    ),
    Fault(
        "optimiser: other moments",
        OPTIMISER,
        "optax.adamw(schedule(optimiser),",
        "optax.adamw(schedule(optimiser), b2=0.99,",
        UPDATES,
    ),
    # -------- update
    Fault(
        "update: gradients are not averaged",
        TRAIN_STEP,
        "        gradients = lax.pmean(gradients, axis_name)\n",
        "",
        MEANS,
    ),
    Fault(
        "update: gradients are summed over replicas",
        TRAIN_STEP,
        "gradients = lax.pmean(gradients, axis_name)",
        "gradients = lax.psum(gradients, axis_name)",
        MEANS,
    ),
    Fault(
        "update: collections are not averaged",
        TRAIN_STEP,
        "        collections = lax.pmean(collections, axis_name)\n",
        "",
        MEANS,
    ),
    Fault(
        "update: the report is one replica's",
        TRAIN_STEP,
        "totals = _sum_over(sums, axis_name)",
        "totals = sums",
        MEANS,
    ),
    Fault(
        "update: nothing to report is zero",
        TRAIN_STEP,
        "jnp.where(n > 0, n, 1.0), jnp.nan)",
        "jnp.where(n > 0, n, 1.0), 0.0)",
        MEANS,
    ),
    Fault(
        "update: norm of the updates instead of the gradients",
        TRAIN_STEP,
        "optax.tree.norm(gradients)",
        "optax.tree.norm(updates)",
        UPDATES,
    ),
    Fault(
        "update: the next step's learning rate is reported",
        TRAIN_STEP,
        "schedule(optimiser)(state.step)",
        "schedule(optimiser)(state.step + 1)",
        UPDATES,
    ),
    Fault(
        "update: the step is not counted", TRAIN_STEP, "step=state.step + 1,", "step=state.step + 0,", UPDATES
    ),
    Fault(
        "update: the optimiser forgets",
        TRAIN_STEP,
        "            opt_state=opt_state,\n",
        "            opt_state=state.opt_state,\n",
        UPDATES,
    ),
    Fault(
        "update: running statistics are not kept",
        TRAIN_STEP,
        "optax.apply_updates(state.params, updates), **collections}",
        "optax.apply_updates(state.params, updates), **state.collections}",
        MEANS,
    ),
    # -------- state
    Fault(
        "statistics: the mean of poses as they are seen",
        STATE,
        "canonical, _ = skeleton.canonicalise(poses)",
        "canonical = poses - poses[:, :1]",
        STATISTICS,
    ),
    Fault(
        "statistics: scale about zero",
        STATE,
        "jnp.std(canonical - mean[None])",
        "jnp.sqrt(jnp.mean(canonical**2))",
        STATISTICS,
    ),
    Fault(
        "statistics: variance instead of deviation",
        STATE,
        "jnp.std(canonical - mean[None])",
        "jnp.var(canonical - mean[None])",
        STATISTICS,
    ),
    Fault(
        "statistics: scale may be zero",
        STATE,
        "jnp.maximum(jnp.std(canonical - mean[None]), 1.0)",
        "jnp.std(canonical - mean[None])",
        STATISTICS,
    ),
    Fault(
        "state: pose statistics are not kept",
        STATE,
        "        statistics=statistics,\n",
        "        statistics=PoseStatistics(0 * statistics.mean, 0 * statistics.scale + 1),\n",
        FRESH,
    ),
    # -------- accumulation
    Fault(
        "accumulation: statistics of the last part",
        ACCUMULATION,
        "jnp.mean(x, axis=0), collections",
        "x[-1], collections",
        PARTS,
    ),
    Fault(
        "accumulation: gradients of the last part",
        ACCUMULATION,
        "jax.tree.map(jnp.add, gradients, pull(cotangent)[0])",
        "pull(cotangent)[0]",
        PARTS,
    ),
    Fault(
        "accumulation: blocks of rows instead of strides",
        ACCUMULATION,
        "x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)",
        "x.reshape(parts, -1, *x.shape[1:])",
        CUT,
    ),
    Fault(
        "accumulation: parts divide one size alone",
        ACCUMULATION,
        "for name, size in sizes.items() if size % parts]",
        "for name, size in list(sizes.items())[:1] if size % parts]",
        DIVIDES,
    ),
)
