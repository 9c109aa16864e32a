"""Encoders, regressor, and what lies between pixels and an embedding; geometry, skeleton, Procrustes and metrics."""

from tests.mutations.fault import Fault

FORMULAS = "tests/mcss_jax/training/test_settings_as_formulas.py"
NETWORKS = "tests/mcss_jax/networks/test_network_settings.py"
STEP = "tests/mcss_jax/training/test_step_as_formulas.py"
PRECISION = (f"{NETWORKS}::test_precision_is_that_of_every_activation",)
HEADS = (f"{NETWORKS}::test_the_heads_of_an_attention",)
GROUP = (f"{NETWORKS}::test_batch_normalisation_takes_its_group",)
FRESH = (f"{STEP}::test_a_fresh_state",)
RESNET_TESTS = ("tests/mcss_jax/networks/test_resnet.py::test_against_the_formula",)
CONVOLUTION_TESTS = ("tests/mcss_jax/networks/test_resnet.py::test_convolution_is_laxs",)
STEM_TESTS = ("tests/mcss_jax/networks/test_resnet.py::test_the_stem_is_torchvisions",)
TRANSFORMER_TESTS = ("tests/mcss_jax/networks/test_vision_transformer.py",)
REGRESSOR_TESTS = ("tests/mcss_jax/networks/test_regressor.py",)
PIXEL_TESTS = (
    "tests/mcss_jax/networks/test_resnet.py::test_normalise_is_imagenets",
    "tests/mcss_jax/networks/test_resnet.py::test_unit_rows_and_the_zero_row",
)
GEOMETRY_TESTS = ("tests/mcss_jax/test_geometry.py",)
SKELETON_TESTS = ("tests/mcss_jax/test_skeleton.py",)
METRIC_TESTS = ("tests/mcss_jax/test_metrics.py",)

ENCODER = "mcss_jax/networks/encoder.py"
RESNET = "mcss_jax/networks/resnet.py"
TRANSFORMER = "mcss_jax/networks/vision_transformer.py"
CONVOLUTION = "mcss_jax/networks/convolution.py"
REGRESSOR = "mcss_jax/networks/regressor.py"
PIXELS = "mcss_jax/networks/pixels.py"
NETWORK = "mcss_jax/networks/pose_network.py"
GEOMETRY = "mcss_jax/geometry.py"
KABSCH = "mcss_jax/kabsch.py"
SKELETON = "mcss_jax/skeleton.py"
METRICS = "mcss_jax/metrics.py"


def shapes_by(field: str) -> tuple[str]:
    """The test of the field that decides them."""
    return (f"{NETWORKS}::test_shapes_of_a_network[{field}]",)


FAULTS = (
    # -------- settings
    Fault("encoder: depth ignored", ENCODER, "depth=network.depth", "depth=18", shapes_by("depth")),
    Fault("encoder: width ignored", ENCODER, "width=network.width", "width=8", shapes_by("width")),
    Fault("encoder: stem ignored", ENCODER, "stem=network.stem", 'stem="conv"', shapes_by("stem")),
    Fault(
        "encoder: embedding_dim of the ResNet ignored",
        ENCODER,
        "        embedding_dim=network.embedding_dim,\n        stem",
        "        embedding_dim=6,\n        stem",
        shapes_by("embedding_dim"),
    ),
    Fault(
        "encoder: embedding_dim of the transformer ignored",
        ENCODER,
        "        embedding_dim=network.embedding_dim,\n        dtype",
        "        embedding_dim=128,\n        dtype",
        HEADS,
    ),
    Fault(
        "encoder: precision of the ResNet ignored",
        ENCODER,
        "        dtype=jnp.dtype(network.precision),\n        axis_name",
        "        dtype=jnp.dtype(jnp.float32),\n        axis_name",
        PRECISION,
    ),
    Fault(
        "encoder: precision of the transformer ignored",
        ENCODER,
        "        embedding_dim=network.embedding_dim,\n        dtype=jnp.dtype(network.precision)",
        "        embedding_dim=network.embedding_dim,\n        dtype=jnp.dtype(jnp.float32)",
        PRECISION,
    ),
    Fault(
        "encoder: vit_patch ignored", ENCODER, "patch=network.vit_patch", "patch=8", shapes_by("vit_patch")
    ),
    Fault("encoder: vit_size ignored", ENCODER, "size=network.vit_size", "size=12", shapes_by("vit_size")),
    Fault(
        "encoder: vit_layers ignored",
        ENCODER,
        "layers=network.vit_layers",
        "layers=2",
        shapes_by("vit_layers"),
    ),
    Fault("encoder: vit_heads ignored", ENCODER, "heads=network.vit_heads", "heads=3", HEADS),
    Fault(
        "encoder: its name ignored",
        NETWORK,
        "ENCODERS[self.network.encoder]",
        'ENCODERS["resnet"]',
        shapes_by("encoder"),
    ),
    Fault(
        "encoder: BatchNorm is always of all replicas",
        ENCODER,
        'axis_name if network.batchnorm_group == "global" else None',
        "axis_name",
        GROUP,
    ),
    Fault(
        "encoder: BatchNorm is always of one replica",
        ENCODER,
        'axis_name if network.batchnorm_group == "global" else None',
        "None",
        GROUP,
    ),
    Fault(
        "encoder: groups of BatchNorm exchanged",
        ENCODER,
        'network.batchnorm_group == "global"',
        'network.batchnorm_group == "replica"',
        GROUP,
    ),
    Fault(
        "encoder: hidden ignored",
        NETWORK,
        "Regressor(self.network.hidden,",
        "Regressor(7,",
        shapes_by("hidden"),
    ),
    Fault(
        "encoder: layers ignored",
        NETWORK,
        "self.network.hidden, self.network.layers,",
        "self.network.hidden, 2,",
        shapes_by("layers"),
    ),
    Fault(
        "encoder: axis of replicas ignored",
        NETWORK,
        "(self.network, self.axis_name)",
        "(self.network, None)",
        GROUP,
    ),
    # -------- ResNet
    Fault("resnet: momentum of BatchNorm", RESNET, "momentum=0.9,", "momentum=0.99,", GROUP),
    Fault("resnet: epsilon of BatchNorm", RESNET, "epsilon=1e-5", "epsilon=1e-2", RESNET_TESTS),
    Fault(
        "resnet: running statistics in training",
        RESNET,
        "use_running_average=not train",
        "use_running_average=True",
        GROUP,
    ),
    Fault(
        "resnet: batch statistics afterwards",
        RESNET,
        "use_running_average=not train",
        "use_running_average=False",
        RESNET_TESTS,
    ),
    Fault(
        "resnet: the last scale of a block starts at one",
        RESNET,
        "zero_scale=i == last",
        "zero_scale=False",
        FRESH,
    ),
    Fault("resnet: every scale starts at zero", RESNET, "zero_scale=i == last", "zero_scale=True", FRESH),
    Fault(
        "resnet: no ReLU inside a block",
        RESNET,
        "y = nn.relu(y) if i < last else y",
        "y = 1.0 * y",
        RESNET_TESTS,
    ),
    Fault(
        "resnet: a ReLU before the sum",
        RESNET,
        "y = nn.relu(y) if i < last else y",
        "y = nn.relu(y)",
        RESNET_TESTS,
    ),
    Fault("resnet: no ReLU after the sum", RESNET, "return nn.relu(x + y)", "return x + y", RESNET_TESTS),
    Fault(
        "resnet: nothing goes past a block",
        RESNET,
        "return nn.relu(x + y)",
        "return nn.relu(y)",
        RESNET_TESTS,
    ),
    Fault(
        "resnet: no ReLU after the stem",
        RESNET,
        """space_to_depth(x, int(self.stem[-1])))
            x = nn.relu(_Norm(self.axis_name, dtype, name="bn1")(x, train))
""",
        """space_to_depth(x, int(self.stem[-1])))
            x = _Norm(self.axis_name, dtype, name="bn1")(x, train)
""",
        ("tests/mcss_jax/networks/test_resnet.py::test_the_patch_stem_ends_in_a_relu",),
    ),
    Fault(
        "resnet: stages do not halve the map",
        RESNET,
        "stride=2 if stage > 0 and block == 0 else 1",
        "stride=1",
        RESNET_TESTS,
    ),
    Fault(
        "resnet: a bottleneck's stride is on its first convolution",
        RESNET,
        "strides = (1, self.stride, 1) if",
        "strides = (self.stride, 1, 1) if",
        RESNET_TESTS,
    ),
    Fault(
        "resnet: maximum instead of mean over the map",
        RESNET,
        "features = jnp.mean(",
        "features = jnp.max(",
        RESNET_TESTS,
    ),
    Fault(
        "resnet: the embedding has any length",
        RESNET,
        'unit(nn.Dense(self.embedding_dim, name="embedding")(features))',
        'nn.Dense(self.embedding_dim, name="embedding")(features)',
        RESNET_TESTS,
    ),
    Fault(
        "resnet: widths do not double",
        RESNET,
        "channels=self.width * 2**stage",
        "channels=self.width * (1 + stage)",
        shapes_by("width"),
    ),
    # -------- convolution
    Fault("convolution: fan-in instead of fan-out", CONVOLUTION, '"fan_out"', '"fan_in"', FRESH),
    Fault(
        "convolution: scale of the first weights",
        CONVOLUTION,
        "variance_scaling(2.0,",
        "variance_scaling(1.0,",
        FRESH,
    ),
    Fault(
        "convolution: stride ignored at size one",
        CONVOLUTION,
        "x = x[:, ::stride, ::stride]",
        "x = x[:, ::1, ::1]",
        CONVOLUTION_TESTS,
    ),
    Fault(
        "convolution: padded as SAME does",
        CONVOLUTION,
        "[(pad, pad)] * 2, dimension",
        '"SAME", dimension',
        CONVOLUTION_TESTS,
    ),
    Fault(
        "convolution: pooling pads with zeros",
        CONVOLUTION,
        "low = jnp.finfo(x.dtype).min",
        "low = 0.0",
        STEM_TESTS,
    ),
    Fault(
        "convolution: patches in another order",
        CONVOLUTION,
        "(0, 1, 3, 2, 4, 5)",
        "(0, 1, 3, 4, 2, 5)",
        RESNET_TESTS,
    ),
    # -------- pixels and regressor
    Fault("pixels: not divided by 255", PIXELS, "1.0 / (255.0 *", "1.0 / (256.0 *", PIXEL_TESTS),
    Fault(
        "pixels: mean not taken away",
        PIXELS,
        "scale.reshape(*lead, 3) - shift.reshape(*lead, 3)",
        "scale.reshape(*lead, 3) - 0 * shift.reshape(*lead, 3)",
        PIXEL_TESTS,
    ),
    Fault(
        "pixels: length one by the sum of amounts",
        PIXELS,
        "square = jnp.sum(x * x, axis=-1, keepdims=True)",
        "square = jnp.sum(jnp.abs(x), axis=-1, keepdims=True) ** 2",
        PIXEL_TESTS,
    ),
    Fault(
        "regressor: the embedding is not scaled",
        REGRESSOR,
        "scaled = embedding * jnp.sqrt(jnp.float32(embedding.shape[-1]))",
        "scaled = 1.0 * embedding",
        REGRESSOR_TESTS,
    ),
    Fault(
        "regressor: scaled by its length",
        REGRESSOR,
        "embedding * jnp.sqrt(jnp.float32(embedding.shape[-1]))",
        "embedding * jnp.float32(embedding.shape[-1])",
        REGRESSOR_TESTS,
    ),
    Fault(
        "regressor: the last layer starts as any other",
        REGRESSOR,
        ", kernel_init=nn.initializers.normal(0.01)",
        "",
        FRESH,
    ),
    Fault("regressor: scale of the last layer", REGRESSOR, "normal(0.01)", "normal(0.1)", FRESH),
    Fault(
        "regressor: no ReLU",
        REGRESSOR,
        'x = nn.relu(nn.Dense(self.hidden, name=f"{name}_hidden{layer}")(x))',
        'x = nn.Dense(self.hidden, name=f"{name}_hidden{layer}")(x)',
        REGRESSOR_TESTS,
    ),
    Fault(
        "regressor: a ReLU on the answer",
        REGRESSOR,
        'return nn.Dense(out, name=f"{name}_out", kernel_init=nn.initializers.normal(0.01))(x)',
        'return nn.relu(nn.Dense(out, name=f"{name}_out", kernel_init=nn.initializers.normal(0.01))(x))',
        REGRESSOR_TESTS,
    ),
    Fault(
        "regressor: joints and axes exchanged",
        REGRESSOR,
        ".reshape(-1, NUM_JOINTS, 3)",
        ".reshape(-1, 3, NUM_JOINTS).swapaxes(1, 2)",
        REGRESSOR_TESTS,
    ),
    # -------- vision transformer
    Fault(
        "transformer: post-normalised attention",
        TRANSFORMER,
        'name="attn")(y)',
        'name="attn")(x)',
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: approximate GELU",
        TRANSFORMER,
        "approximate=False",
        "approximate=True",
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: epsilon of the normalisation",
        TRANSFORMER,
        "EPSILON = 1e-6",
        "EPSILON = 1e-2",
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: positions left out",
        TRANSFORMER,
        "x = x + position.astype(dtype)",
        "x = x + 0 * position.astype(dtype)",
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: query and key exchanged",
        TRANSFORMER,
        "query, key, value = jnp.moveaxis(",
        "key, query, value = jnp.moveaxis(",
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: features of the first patch",
        TRANSFORMER,
        "(x[:, 0].astype(jnp.float32))",
        "(x[:, 1].astype(jnp.float32))",
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: no way past the dense layers",
        TRANSFORMER,
        'return x + nn.Dense(size, dtype=self.dtype, name="fc2")(y)',
        'return nn.Dense(size, dtype=self.dtype, name="fc2")(y)',
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: the embedding has any length",
        TRANSFORMER,
        'unit(nn.Dense(self.embedding_dim, name="embedding")(features))',
        'nn.Dense(self.embedding_dim, name="embedding")(features)',
        TRANSFORMER_TESTS,
    ),
    Fault(
        "transformer: scale of the first positions",
        TRANSFORMER,
        "nn.initializers.normal(0.02)",
        "nn.initializers.normal(0.2)",
        (
            f"{FORMULAS[: -len('test_settings_as_formulas.py')]}test_step_as_formulas.py::test_a_fresh_transformer",
        ),
    ),
    # -------- geometry and skeleton
    Fault(
        "geometry: translation left out", GEOMETRY, "e[2] * z + e[3] for e", "e[2] * z for e", GEOMETRY_TESTS
    ),
    Fault(
        "geometry: the lens of OpenCV",
        GEOMETRY,
        "(x * factor + p2 * r2)",
        "(x * factor + 2 * p2 * r2)",
        GEOMETRY_TESTS,
    ),
    Fault(
        "geometry: focal lengths exchanged",
        GEOMETRY,
        "u = intrinsics[0, 0]",
        "u = intrinsics[1, 1]",
        GEOMETRY_TESTS,
    ),
    Fault(
        "geometry: the virtual camera turns away",
        GEOMETRY,
        "rows = ((1 - x * x / (1 + z), xy, x), (xy, 1 - y * y / (1 + z), y), (-x, -y, z))",
        "rows = ((1 - x * x / (1 + z), xy, -x), (xy, 1 - y * y / (1 + z), -y), (x, y, z))",
        GEOMETRY_TESTS,
    ),
    Fault(
        "geometry: the second column first",
        GEOMETRY,
        "first, second = columns[..., :3], columns[..., 3:]",
        "second, first = columns[..., :3], columns[..., 3:]",
        GEOMETRY_TESTS,
    ),
    Fault(
        "geometry: a reflection",
        GEOMETRY,
        "jnp.cross(b1, b2)], axis=-1)",
        "jnp.cross(b2, b1)], axis=-1)",
        GEOMETRY_TESTS,
    ),
    Fault(
        "kabsch: transposed correlation",
        KABSCH,
        "sum(target[k, i] * pred[k, j] for k in joints)",
        "sum(target[k, j] * pred[k, i] for k in joints)",
        GEOMETRY_TESTS,
    ),
    Fault(
        "kabsch: not centred",
        KABSCH,
        "centred = scaled - mean[:, None]",
        "centred = scaled - 0 * mean[:, None]",
        METRIC_TESTS,
    ),
    Fault(
        "skeleton: x points to the right hip",
        SKELETON,
        "pose[..., LHIP, :] - pose[..., RHIP, :]",
        "pose[..., RHIP, :] - pose[..., LHIP, :]",
        SKELETON_TESTS,
    ),
    Fault(
        "skeleton: y is not orthogonal to x",
        SKELETON,
        """    y = _unit(spine - jnp.sum(spine * x, axis=-1, keepdims=True) * x, _perpendicular(x))
    # Where spine and hips nearly coincide the difference above cancels; orthogonalise once more.
    y = _unit(y - jnp.sum(y * x, axis=-1, keepdims=True) * x, _perpendicular(x))
""",
        """    y = _unit(spine, _perpendicular(x))
""",
        SKELETON_TESTS,
    ),
    Fault(
        "skeleton: the root is not the origin",
        SKELETON,
        "centred = pose - pose[..., ROOT : ROOT + 1, :]",
        "centred = 1.0 * pose",
        SKELETON_TESTS,
    ),
    Fault(
        "skeleton: turned into the camera instead of the body",
        SKELETON,
        "jnp.matmul(centred, rotation, precision",
        "jnp.matmul(centred, rotation.swapaxes(-1, -2), precision",
        SKELETON_TESTS,
    ),
    Fault(
        "skeleton: a mirror without sides", SKELETON, "pose[..., list(MIRROR), :] *", "pose *", SKELETON_TESTS
    ),
    Fault("skeleton: mirrored upside down", SKELETON, "[-1.0, 1.0, 1.0]", "[1.0, -1.0, 1.0]", SKELETON_TESTS),
    # -------- metrics
    Fault(
        "metrics: MPJPE without the root's zero",
        METRICS,
        "return jnp.mean(_lengths(vectors), axis=-1)",
        "return jnp.sum(_lengths(vectors), axis=-1) / 16",
        METRIC_TESTS,
    ),
    Fault(
        "metrics: MPJPE of absolute positions",
        METRICS,
        "return _mean_length(_root_relative(p) - _root_relative(g)) / _SHRINK",
        "return _mean_length(p - g)",
        METRIC_TESTS,
    ),
    Fault(
        "metrics: N-MPJPE is MPJPE",
        METRICS,
        "return _per_pose(_n_mpjpe, pred, target)",
        "return _per_pose(_mpjpe, pred, target)",
        METRIC_TESTS,
    ),
    Fault(
        "metrics: PA-MPJPE is N-MPJPE",
        METRICS,
        "return _per_pose(_pa_mpjpe, pred, target)",
        "return _per_pose(_n_mpjpe, pred, target)",
        METRIC_TESTS,
    ),
    Fault(
        "metrics: N-MPJPE scales the truth",
        METRICS,
        "return _mean_length(scale * p - g) * size",
        "return _mean_length(p - scale * g) * size",
        METRIC_TESTS,
    ),
    Fault(
        "metrics: PCK at its threshold", METRICS, "< threshold).astype", "<= threshold).astype", METRIC_TESTS
    ),
    Fault(
        "metrics: PCK ignores its threshold", METRICS, "< threshold).astype", "< 150.0).astype", METRIC_TESTS
    ),
    Fault(
        "metrics: PCK ignores its joints",
        METRICS,
        "_joint_errors(p, g, joints) < threshold",
        "_joint_errors(p, g, JOINTS_3DHP) < threshold",
        METRIC_TESTS,
    ),
    Fault("metrics: AUC without zero", METRICS, "range(0, 151, 5)", "range(5, 151, 5)", METRIC_TESTS),
    Fault(
        "metrics: AUC ignores its joints",
        METRICS,
        "below = _joint_errors(p, g, joints)",
        "below = _joint_errors(p, g, JOINTS_3DHP)",
        METRIC_TESTS,
    ),
)
