"""Distances, the metric losses, pose and rotation losses, and how the step weighs and reports them."""

from tests.mutations.fault import Fault

FALSE = ("tests/mcss_jax/training/test_mined_pose_distance.py",)

FORMULAS = "tests/mcss_jax/training/test_settings_as_formulas.py"
STEP = "tests/mcss_jax/training/test_step_as_formulas.py"
LOSS = (f"{FORMULAS}::test_loss_figures_and_gradient",)
SOFTNESS = (f"{FORMULAS}::test_softness_over_the_run",)
REPLICAS = (f"{STEP}::test_replicas_mean_the_loss_of_the_whole_batch",)
PAIRS = ("tests/mcss_jax/test_metric_losses.py",)
OF_LOSSES = ("tests/mcss_jax/test_losses.py",)

DISTANCES = "mcss_jax/distances.py"
LOSSES = "mcss_jax/losses.py"
MINING = "mcss_jax/mining.py"
INFONCE = "mcss_jax/metric_losses/infonce.py"
PAIRS_FILE = "mcss_jax/pairs.py"
TRIPLET = "mcss_jax/metric_losses/triplet.py"
SEEN = "mcss_jax/pairs.py"
TRAIN_STEP = "mcss_jax/training/train_step.py"

FAULTS = (
    # -------- distances
    Fault(
        "distances: the gradient at zero is infinite",
        DISTANCES,
        "jnp.sqrt(jnp.where(positive, square, 1.0))",
        "jnp.sqrt(square)",
        ("tests/mcss_jax/test_distances.py",),
    ),
    Fault(
        "distances: half precision is not left",
        DISTANCES,
        "    a, b = a.astype(jnp.float32), b.astype(jnp.float32)\n",
        "",
        ("tests/mcss_jax/test_distances.py",),
    ),
    Fault(
        "distances: the root is left out of pairs",
        DISTANCES,
        "return safe_sqrt(jnp.maximum(square, 0.0))",
        "return jnp.maximum(square, 0.0)",
        PAIRS,
    ),
    # -------- losses
    Fault(
        "losses: margin ignored", LOSSES, "jnp.maximum(margin + triplets", "jnp.maximum(0.5 + triplets", LOSS
    ),
    Fault(
        "losses: margin ignored by the setting",
        TRIPLET,
        "losses.triplet(triplets, objective.margin)",
        "losses.triplet(triplets, 0.5)",
        LOSS,
    ),
    Fault(
        "losses: positive and negative exchanged in the hinge",
        LOSSES,
        "margin + triplets.positive - triplets.negative",
        "margin + triplets.negative - triplets.positive",
        LOSS,
    ),
    Fault(
        "losses: no hinge",
        LOSSES,
        "jnp.maximum(margin + triplets.positive - triplets.negative, 0.0)",
        "margin + triplets.positive - triplets.negative",
        OF_LOSSES,
    ),
    Fault(
        "losses: anchors without a negative count",
        LOSSES,
        "jnp.sum(triplets.valid).astype",
        "jnp.sum(jnp.ones_like(triplets.valid)).astype",
        OF_LOSSES,
    ),
    Fault(
        "losses: the mean runs over violators",
        LOSSES,
        "0.0)), jnp.sum(triplets.valid).astype",
        "0.0)), jnp.sum(triplets.valid & (hinge > 0)).astype",
        LOSS,
    ),
    Fault(
        "losses: anchors without a negative add their margin",
        LOSSES,
        "jnp.sum(jnp.where(triplets.valid, hinge, 0.0))",
        "jnp.sum(hinge)",
        OF_LOSSES,
    ),
    Fault(
        "losses: squared pose error",
        LOSSES,
        "jnp.mean(jnp.abs(predicted - jnp.where(valid[:, None, None], target, 0.0))",
        "jnp.mean(jnp.square(predicted - jnp.where(valid[:, None, None], target, 0.0))",
        LOSS,
    ),
    Fault(
        "losses: pose errors are summed over coordinates",
        LOSSES,
        "error = jnp.mean(",
        "error = jnp.sum(",
        LOSS,
    ),
    Fault("losses: rotations are not divided by 8", LOSSES, "axis=(1, 2)) / 8.0", "axis=(1, 2)) / 4.0", LOSS),
    Fault(
        "losses: an invalid rotation is NaN in the gradient",
        LOSSES,
        "difference = predicted - jnp.where(valid[:, None, None], target, 0.0)",
        "difference = predicted - target",
        OF_LOSSES,
    ),
    # -------- temperature
    Fault(
        "temperature: it stays at its start",
        MINING,
        "value = start * jnp.exp(progress * jnp.log(low / start))",
        "value = start * jnp.exp(0.0 * jnp.log(low / start))",
        SOFTNESS,
    ),
    Fault(
        "temperature: the end is a tenth of the start",
        MINING,
        "low = end if end > 0 else 0.01 * start",
        "low = 0.1 * start",
        SOFTNESS,
    ),
    Fault(
        "temperature: the start is ignored",
        MINING,
        "value = start * jnp.exp(progress * jnp.log(low / start))",
        "value = 0.3 * jnp.exp(progress * jnp.log(low / 0.3))",
        SOFTNESS,
    ),
    Fault(
        "temperature: linear",
        MINING,
        "start * jnp.exp(progress * jnp.log(low / start)) if",
        "start + progress * (low - start) if",
        SOFTNESS,
    ),
    Fault("temperature: it goes on after the schedule", MINING, "0.0, 1.0)", "0.0, 9.0)", SOFTNESS),
    Fault(
        "temperature: never hard",
        MINING,
        "(progress >= 1.0) & (end <= 0)",
        "(progress > 1.0) & (end <= 0)",
        SOFTNESS,
    ),
    Fault(
        "temperature: steps of the schedule ignored",
        "mcss_jax/method.py",
        "return self.objective.temperature_steps or self.optimiser.steps",
        "return self.optimiser.steps",
        SOFTNESS,
    ),
    Fault(
        "temperature: the run's steps are not its default",
        "mcss_jax/method.py",
        "return self.objective.temperature_steps or self.optimiser.steps",
        "return self.objective.temperature_steps or 1000",
        SOFTNESS,
    ),
    Fault(
        "temperature: start and end exchanged in the step",
        TRAIN_STEP,
        "weights.temperature_start, weights.temperature_end",
        "weights.temperature_end, weights.temperature_start",
        SOFTNESS,
    ),
    Fault(
        "temperature: the first step's for ever",
        TRAIN_STEP,
        "state.step, weights.temperature_start",
        "0, weights.temperature_start",
        SOFTNESS,
    ),
    Fault(
        "temperature: not used by the triplet loss",
        TRIPLET,
        "losses.mine(pairs, temperature)",
        "losses.mine(pairs, 0.0)",
        LOSS,
    ),
    Fault(
        "temperature: sum instead of mean of exponentials",
        MINING,
        "jnp.sum(weight, axis=1) / count",
        "jnp.sum(weight, axis=1)",
        LOSS,
    ),
    Fault(
        "temperature: wrong sign of the soft minimum",
        MINING,
        "anchor - scale * jnp.log(mean)",
        "anchor + scale * jnp.log(mean)",
        LOSS,
    ),
    Fault(
        "temperature: it is not multiplied back",
        MINING,
        "anchor - scale * jnp.log(mean)",
        "anchor - jnp.log(mean)",
        LOSS,
    ),
    Fault(
        "mining: the easiest negative",
        MINING,
        "index = jnp.argmin(blocked, axis=1)",
        "index = jnp.argmax(jnp.where(mask, distances, -jnp.inf), axis=1)",
        ("tests/mcss_jax/test_mining.py",),
    ),
    Fault(
        "mining: negatives of the same recording at any time",
        MINING,
        "apart = ~same_sequence | (far &",
        "apart = ~same_sequence | (",
        LOSS,
    ),
    Fault(
        "mining: another recording of the person is no negative",
        MINING,
        "apart = ~same_sequence | (far",
        "apart = ~same_sequence & (far",
        ("tests/mcss_jax/test_mining.py",),
    ),
    Fault(
        "mining: time that has passed, not its amount",
        MINING,
        "jnp.abs(time[:, None] - other_time[None, :])",
        "(time[:, None] - other_time[None, :])",
        LOSS,
    ),
    # -------- pairs
    Fault(
        "pairs: candidates that are not valid count",
        PAIRS_FILE,
        "of.valid[:, None] & columns.valid[None, :]",
        "of.valid[:, None]",
        PAIRS,
    ),
    Fault(
        "pairs: anchors that are not valid count",
        PAIRS_FILE,
        "of.valid[:, None] & columns.valid[None, :]",
        "columns.valid[None, :]",
        PAIRS,
    ),
    Fault(
        "pairs: a view is its own positive",
        PAIRS_FILE,
        "pairs.embedding[:, 0], pairs.embedding[:, 1]",
        "pairs.embedding[:, 0], pairs.embedding[:, 0]",
        PAIRS,
    ),
    Fault(
        "pairs: columns in order of view",
        PAIRS_FILE,
        "flat = pairs.candidates.reshape(-1, dim)",
        "flat = pairs.candidates.swapaxes(0, 1).reshape(-1, dim)",
        PAIRS,
    ),
    Fault(
        "pairs: anchors' instants in another order",
        PAIRS_FILE,
        "of = jax.tree.map(lambda x: jnp.repeat(x, 2), pairs.instants)",
        "of = jax.tree.map(lambda x: jnp.tile(x, 2), pairs.instants)",
        PAIRS,
    ),
    Fault(
        "pairs: this replica's rows alone are candidates",
        PAIRS_FILE,
        "columns = jax.tree.map(lambda x: jnp.repeat(x, 2), pairs.candidate_instants)",
        "flat = pairs.embedding.reshape(-1, dim)\n"
        "    columns = jax.tree.map(lambda x: jnp.repeat(x, 2), pairs.instants)",
        PAIRS,
    ),
    Fault(
        "pairs: the last block is lost",
        PAIRS_FILE,
        "lambda x: x.reshape(-1)[:total]",
        "lambda x: jnp.where(jnp.arange(total) < total - 1, x.reshape(-1)[:total], 0)",
        OF_LOSSES,
    ),
    Fault("pairs: gap ignored", PAIRS_FILE, "        pairs.min_gap,\n", "        0.5,\n", LOSS),
    Fault(
        "pairs: across_groups ignored",
        PAIRS_FILE,
        "        pairs.across_groups,\n",
        "        True,\n",
        LOSS,
    ),
    # -------- InfoNCE
    Fault(
        "infonce: temperature ignored", INFONCE, "scale = objective.infonce_temperature", "scale = 0.1", LOSS
    ),
    Fault(
        "infonce: temperature multiplies",
        INFONCE,
        "logits = jnp.where(allowed, _cosine(distance) / scale",
        "logits = jnp.where(allowed, _cosine(distance) * scale",
        PAIRS,
    ),
    Fault(
        "infonce: the positive is not in the denominator",
        INFONCE,
        "jnp.logaddexp(same, negatives) - same",
        "negatives - same",
        PAIRS,
    ),
    Fault(
        "infonce: wrong sign",
        INFONCE,
        "jnp.logaddexp(same, negatives) - same",
        "same - jnp.logaddexp(same, negatives)",
        PAIRS,
    ),
    Fault(
        "infonce: distance instead of its square",
        INFONCE,
        "1.0 - 0.5 * distance * distance",
        "1.0 - 0.5 * distance",
        PAIRS,
    ),
    Fault(
        "infonce: the mask is dropped",
        INFONCE,
        "logits = jnp.where(allowed, _cosine(distance) / scale, -jnp.inf)",
        "logits = _cosine(distance) / scale",
        PAIRS,
    ),
    Fault(
        "infonce: the furthest negative is reported",
        INFONCE,
        "mining.hardest(distance, allowed, 0.0)",
        "mining.hardest(-distance, allowed, 0.0)",
        LOSS,
    ),
    Fault(
        "infonce: figures exchanged",
        INFONCE,
        "distance_figures(positive, negative, has_negative)",
        "distance_figures(negative, positive, has_negative)",
        LOSS,
    ),
    Fault(
        "infonce: it is always the triplet loss",
        "mcss_jax/metric_losses/registry.py",
        'f"mcss_jax.metric_losses.{name}"',
        '"mcss_jax.metric_losses.triplet"',
        LOSS,
    ),
    # -------- figures
    Fault(
        "figures: the positive distance is the negative's",
        SEEN,
        "(jnp.sum(positive * counted), count)",
        "(jnp.sum(negative * counted), count)",
        LOSS,
    ),
    Fault(
        "figures: the negative distance is the positive's",
        SEEN,
        "(jnp.sum(negative * counted), count)",
        "(jnp.sum(positive * counted), count)",
        LOSS,
    ),
    Fault(
        "figures: distances of anchors without a negative count",
        SEEN,
        "counted = has_negative.astype(jnp.float32)",
        "counted = jnp.ones(has_negative.shape)",
        LOSS,
    ),
    Fault(
        "figures: pose and rotation loss exchanged",
        TRAIN_STEP,
        'sums[f"loss_{name}"] = (total, count)',
        'sums["loss_" + {"pose": "rotation", "rotation": "pose"}.get(name, name)] = (total, count)',
        LOSS,
    ),
    Fault(
        "figures: a reported loss is weighted",
        TRAIN_STEP,
        'sums[f"loss_{name}"] = (total, count)',
        'sums[f"loss_{name}"] = (weight * total, count)',
        LOSS,
    ),
    Fault(
        "figures: training error in standardised units",
        TRAIN_STEP,
        "metrics.mpjpe(standardised * scale + mean[None], canonical)",
        "metrics.mpjpe(standardised, standardised_target)",
        LOSS,
    ),
    Fault(
        "figures: training error without the mean pose",
        TRAIN_STEP,
        "metrics.mpjpe(standardised * scale + mean[None], canonical)",
        "metrics.mpjpe(standardised * scale, canonical)",
        LOSS,
    ),
    Fault(
        "figures: mined pose distance of other rows",
        TRAIN_STEP,
        "skeleton.canonicalise(candidates)[0][term.mined // 2]",
        "skeleton.canonicalise(candidates)[0][term.mined % 2]",
        LOSS,
    ),
    Fault(
        "figures: mined pose distance with the turn left in",
        TRAIN_STEP,
        "own = jnp.repeat(skeleton.canonicalise(pose)[0], 2, axis=0)",
        "own = jnp.repeat(pose - pose[:, :1], 2, axis=0)",
        LOSS,
    ),
    Fault(
        "figures: variance about zero",
        TRAIN_STEP,
        "jnp.sum(jnp.var(everything, axis=0))",
        "jnp.sum(jnp.mean(everything**2, axis=0))",
        LOSS,
    ),
    Fault(
        "figures: variance of all numbers together",
        TRAIN_STEP,
        "jnp.sum(jnp.var(everything, axis=0))",
        "jnp.var(everything)",
        LOSS,
    ),
    Fault(
        "figures: mean of replicas' variances",
        TRAIN_STEP,
        "_gather(lax.stop_gradient(jnp.concatenate(embeddings)), axis_name)",
        "lax.stop_gradient(jnp.concatenate(embeddings))",
        REPLICAS,
    ),
    # -------- the loss of the step
    Fault(
        "objective: metric weight ignored", TRAIN_STEP, "(weights.metric_weight, (term", "(1.0, (term", LOSS
    ),
    Fault(
        "objective: rotation weight ignored",
        TRAIN_STEP,
        "(weights.rotation_weight, losses",
        "(1.0, losses",
        LOSS,
    ),
    Fault(
        "objective: weights are left out of the sum",
        TRAIN_STEP,
        "loss = loss + weight * share",
        "loss = loss + share",
        LOSS,
    ),
    Fault(
        "objective: gap ignored in the step",
        TRAIN_STEP,
        "            weights.min_negative_gap,\n",
        "            0.5,\n",
        LOSS,
    ),
    Fault(
        "objective: across_groups ignored in the step",
        TRAIN_STEP,
        "            weights.across_groups,\n",
        "            True,\n",
        LOSS,
    ),
    Fault(
        "objective: sums instead of means", TRAIN_STEP, "share = total / everywhere", "share = total", LOSS
    ),
    Fault(
        "objective: the pose is not standardised",
        TRAIN_STEP,
        "standardised_target = (canonical - mean[None]) / scale",
        "standardised_target = canonical / scale",
        LOSS,
    ),
    Fault(
        "objective: the scale of poses ignored",
        TRAIN_STEP,
        "standardised_target = (canonical - mean[None]) / scale",
        "standardised_target = (canonical - mean[None]) / 1000.0",
        LOSS,
    ),
    Fault(
        "objective: flip not mirrored in the target",
        TRAIN_STEP,
        "virtual = jnp.where(flipped[:, None, None], skeleton.mirror(virtual), virtual)",
        "virtual = 1.0 * virtual",
        LOSS,
    ),
    Fault(
        "objective: the target is mirrored before the camera turns",
        TRAIN_STEP,
        """    virtual = jnp.matmul(pose, turn, precision="highest")
    virtual = jnp.where(flipped[:, None, None], skeleton.mirror(virtual), virtual)
""",
        """    pose = jnp.where(flipped[:, None, None], skeleton.mirror(pose), pose)
    virtual = jnp.matmul(pose, turn, precision="highest")
""",
        LOSS,
    ),
    Fault(
        "objective: the camera's turn is left out",
        TRAIN_STEP,
        'virtual = jnp.matmul(pose, turn, precision="highest")',
        "virtual = pose + 0.0 * turn[:, :1]",
        LOSS,
    ),
    Fault(
        "objective: the camera turns the other way",
        TRAIN_STEP,
        "virtual = jnp.matmul(pose, turn,",
        "virtual = jnp.matmul(pose, turn.swapaxes(1, 2),",
        LOSS,
    ),
    Fault(
        "objective: box of the crop before augmentation",
        TRAIN_STEP,
        "canonical, target = _targets(data, crop.box, crop.flipped)",
        "canonical, target = _targets(data, data.box, crop.flipped)",
        LOSS,
    ),
    Fault(
        "objective: metric loss carries no gradient",
        TRAIN_STEP,
        "        pairs = Pairs(\n            embedding,",
        "        pairs = Pairs(\n            lax.stop_gradient(embedding),",
        LOSS,
    ),
    Fault(
        "objective: negatives carry no gradient",
        TRAIN_STEP,
        "            _gather(embedding, axis_name),",
        "            lax.stop_gradient(_gather(embedding, axis_name)),",
        LOSS,
    ),
    Fault(
        "objective: only own candidates on several replicas",
        TRAIN_STEP,
        "            _gather(embedding, axis_name),\n            _gather(instants, axis_name),",
        "            embedding,\n            instants,",
        REPLICAS,
    ),
    Fault(
        "objective: every replica divides by its own count",
        TRAIN_STEP,
        "jnp.maximum(_sum_over(count, axis_name), 1.0)",
        "jnp.maximum(count * (1 if axis_name is None else lax.axis_size(axis_name)), 1.0)",
        REPLICAS,
    ),
    Fault(
        "objective: the mean over replicas is too small",
        TRAIN_STEP,
        "lax.pmean(share * lax.axis_size(axis_name), axis_name)",
        "lax.pmean(share, axis_name)",
        REPLICAS,
    ),
    # -------- what is logged of negatives
    Fault(
        "figures: the limit of a false negative",
        TRAIN_STEP,
        "FALSE_NEGATIVE = 50.0",
        "FALSE_NEGATIVE = 60.0",
        FALSE,
    ),
    Fault(
        "figures: a false negative counts where no label may be read",
        TRAIN_STEP,
        "false = labelled & (distance < FALSE_NEGATIVE)",
        "false = distance < FALSE_NEGATIVE",
        FALSE,
    ),
    Fault(
        "figures: every anchor has a negative",
        TRAIN_STEP,
        "jnp.sum(number > 0)",
        "jnp.sum(number >= 0)",
        LOSS,
    ),
    Fault(
        "figures: damaged instants count as anchors",
        TRAIN_STEP,
        "jnp.sum(pairs.instants.valid)",
        "jnp.sum(jnp.ones_like(pairs.instants.valid))",
        LOSS,
    ),
)
