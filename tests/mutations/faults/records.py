"""What is written into a prepared set, and what names it."""

from tests.mutations.fault import Fault

BUILDER = "datasets/tuples/tuple_builder.py"
COLUMNS = "datasets/tuples/columns.py"
RECORDS = "datasets/tuples/records.py"
PREPARED = "datasets/tuples/prepared.py"
WRITTEN = ("tests/datasets/tuples/test_builder_by_hand.py",)

FAULTS = (
    Fault(
        "records: a pose is needed in views that show nobody",
        BUILDER,
        "np.all(np.isfinite(instant.pose[instant.view_valid]))",
        "np.all(np.isfinite(instant.pose))",
        WRITTEN,
    ),
    Fault(
        "records: some joints are a pose",
        BUILDER,
        "np.all(np.isfinite(instant.pose[instant.view_valid]))",
        "np.any(np.isfinite(instant.pose[instant.view_valid]))",
        WRITTEN,
    ),
    Fault(
        "records: a record that shows nobody has a pose",
        BUILDER,
        "and instant.view_valid.any())",
        "and True)",
        WRITTEN,
    ),
    Fault(
        "records: one instant with a pose is enough for a sequence",
        BUILDER,
        'labelled &= example["has_pose"] or',
        'labelled |= example["has_pose"] or',
        WRITTEN,
    ),
    Fault(
        "records: an instant that shows nobody takes a sequence's poses",
        BUILDER,
        'labelled &= example["has_pose"] or not example["view_valid"].any()',
        'labelled &= example["has_pose"]',
        WRITTEN,
    ),
    Fault(
        "records: an empty sequence has poses",
        BUILDER,
        "has_pose=labelled and bool(frames),",
        "has_pose=labelled,",
        WRITTEN,
    ),
    Fault(
        "records: a shard's records are counted from zero",
        BUILDER,
        'record = sum(row["length"] for row in table)',
        "record = 0",
        WRITTEN,
    ),
    Fault(
        "records: a sequence begins where it ends",
        BUILDER,
        "first=first,",
        "first=record,",
        WRITTEN,
    ),
    Fault(
        "records: a sequence is one too long",
        BUILDER,
        "length=record - first,",
        "length=record - first + 1,",
        WRITTEN,
    ),
    Fault(
        "records: the sequence is its group",
        BUILDER,
        '"sequence": sequence,',
        '"sequence": recording.group,',
        WRITTEN,
    ),
    Fault(
        "records: the time is the frame's number",
        BUILDER,
        '"time": np.float64(instant.time),',
        '"time": np.float64(instant.frame),',
        WRITTEN,
    ),
    Fault(
        "records: calibration is rounded",
        BUILDER,
        '"intrinsics": np.asarray(instant.intrinsics, np.float64),',
        '"intrinsics": np.asarray(instant.intrinsics, np.float32).astype(np.float64),',
        WRITTEN,
    ),
    Fault(
        "records: everything is written into one shard",
        BUILDER,
        "count = max(1, min(sequences, round(self.expected_bytes(split) / SHARD_BYTES)))",
        "count = 1",
        WRITTEN,
    ),
    Fault(
        "records: the defect is not kept",
        BUILDER,
        "defect=recording.defect,",
        'defect="",',
        WRITTEN,
    ),
    Fault(
        "records: the spacing in time is that of the first recording",
        BUILDER,
        "seconds_per_record=recording.seconds_per_record,",
        "seconds_per_record=0.1,",
        WRITTEN,
    ),
    Fault(
        "records: progress counts records",
        BUILDER,
        'self.on_record(int(example["view_valid"].sum()))',
        "self.on_record(1)",
        WRITTEN,
    ),
    Fault(
        "records: frame numbers are not kept",
        BUILDER,
        "runs=runs_of(frames),",
        "runs=(),",
        WRITTEN,
    ),
    Fault(
        "records: a fingerprint is not of the specification",
        BUILDER,
        '"specification": info.metadata["specification"], "tables": tables}',
        '"tables": tables}',
        WRITTEN,
    ),
    Fault(
        "records: a fingerprint is not of the sequences",
        BUILDER,
        '"specification": info.metadata["specification"], "tables": tables}',
        '"specification": info.metadata["specification"]}',
        WRITTEN,
    ),
    Fault(
        "records: a fingerprint is not of the version",
        BUILDER,
        '{"name": info.full_name, "specification"',
        '{"specification"',
        WRITTEN,
    ),
    Fault(
        "records: a fingerprint is of how frame numbers are kept",
        BUILDER,
        'if key != "runs" and (key',
        "if (key",
        WRITTEN,
    ),
    Fault(
        "records: a fingerprint is not of defects",
        BUILDER,
        '(key != "defect" or value)',
        'key != "defect"',
        WRITTEN,
    ),
    Fault(
        "records: columns are those of the first record",
        COLUMNS,
        "self._features.deserialize_example_np(self._records[index])",
        "self._features.deserialize_example_np(self._records[0])",
        WRITTEN,
    ),
    Fault(
        "records: a run of frames may have no second step",
        RECORDS,
        "runs[-1] = (first, frame - first, 2)",
        "runs[-1] = (first, 1, 2)",
        WRITTEN,
    ),
    Fault(
        "records: the system's own errors are damage",
        PREPARED,
        "if is_mendable(error):",
        "if False:",
        ("tests/datasets/tuples/test_damage.py::test_the_systems_own_errors_are_no_damage",),
    ),
)
