"""metadata.xml: cameras against published numbers, names, and everything that may be wrong with it."""

import re
import time

import numpy as np
import pytest

from datasets.human36m import metadata
from datasets.human36m.catalogue import SPLITS
from mcss_jax import geometry
from tests.distributions import human36m, human36m_scene
from tests.refusals import refused

DISTRIBUTION = human36m.Distribution(
    subjects=("S1", "S5", "S7", "S9", "S11"),
    takes=((2, 2), (3, 1), (6, 1), (10, 2), (12, 1), (15, 1), (16, 1)),
)
TEXT = human36m.metadata_xml(DISTRIBUTION)

# docs/data_formats.md#human36m-cameras: camera 54138969 as it filmed S1, and the lenses of all four.
PLACEMENT = (
    -1.38382776045614,
    -3.16734304390158,
    0.413636308164621,
    1841.10702774543,
    4955.28462344526,
    1563.4453958977,
)
LENSES = """
1145.04940458804 1143.78109572365 512.541504956548 515.4514869776
    -0.207098910824901 0.247775183068982 -0.00307515035078854 -0.00142447157470321 -0.000975698859470499
1149.67569986785 1147.59161666764 508.848621645943 508.064917088557
    -0.194213629607385 0.240408539138292 0.00681997559022603 -0.0027408943961907 -0.001619026613787
1149.14071676148 1148.7989685676 519.815837182153 501.402658888552
    -0.208338188251856 0.255488007488945 -0.00246049749891915 -0.000759999321030303 0.00148438698385668
1145.51133842318 1144.77392807652 514.968197319863 501.882018537695
    -0.198384093827848 0.218323676298049 -0.00894780704152122 -0.00181336200488089 -0.000587205583421232
"""


def with_w0(numbers: str) -> bytes:
    return re.sub(r"<w0>.*?</w0>", f"<w0>[{numbers}]</w0>", TEXT).encode()


def published() -> metadata.Camera:
    others = np.zeros(4 * 11 * 6 - 6)
    numbers = " ".join([*map(repr, PLACEMENT), *map(str, others), LENSES])
    return metadata.parse(with_w0(numbers)).camera("S1", "54138969")


def test_the_published_camera() -> None:
    camera = published()
    rotation = [
        [-0.915361732151, 0.401808366337, 0.025747544634],
        [0.051548117060, 0.180373568938, -0.982246490071],
        [-0.399319034032, -0.897783611106, -0.185819527201],
    ]
    np.testing.assert_allclose(camera.extrinsics[:, :3], rotation, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        camera.extrinsics[:, 3], [-346.050781400281, 546.9807793144, 5474.481087434061], rtol=0, atol=1e-8
    )
    np.testing.assert_array_equal(
        camera.intrinsics,
        [[1145.04940458804, 0, 512.541504956548], [0, 1143.78109572365, 515.4514869776], [0, 0, 1]],
    )
    assert camera.distortion.tolist()[3:] == [-0.00142447157470321, -0.000975698859470499]


@pytest.mark.parametrize(
    ("point", "seen", "pixel"),
    [
        ((0, 0, 1000), (-320.3032367668, -435.2657107562, 5288.6615602326), (443.3167689867, 421.4837935469)),
        (
            (500, -300, 1500),
            (-885.6528404267, -954.7269679429, 5265.4273629474),
            (322.0541910116, 310.3089983083),
        ),
    ],
)
def test_the_published_projections(point, seen, pixel) -> None:
    camera = published()
    in_camera = geometry.to_camera(np.array(point, float), camera.extrinsics)
    np.testing.assert_allclose(in_camera, seen, rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        geometry.project(in_camera, camera.intrinsics, camera.distortion), pixel, rtol=0, atol=1e-8
    )


def test_the_published_lenses_belong_to_their_cameras() -> None:
    parsed = metadata.parse(with_w0(" ".join(map(str, np.zeros(264))) + LENSES))
    for name, line in zip(human36m.CAMERAS, np.array(LENSES.split(), float).reshape(4, 9), strict=True):
        assert parsed.camera("S8", name).lens == tuple(line)


def test_every_number_of_w0_has_its_place() -> None:
    parsed = metadata.parse(with_w0(" ".join(map(str, range(300)))))
    for c, name in enumerate(human36m.CAMERAS):
        for s in range(11):
            camera = parsed.camera(f"S{s + 1}", name)
            assert camera.placement == tuple(range((c * 11 + s) * 6, (c * 11 + s) * 6 + 6))
            assert camera.lens == tuple(range(264 + 9 * c, 273 + 9 * c))


def test_rotations_are_composed_as_written_out_by_hand() -> None:
    parsed = metadata.parse(TEXT.encode())
    for subject in ("S1", "S11"):
        for c, name in enumerate(human36m.CAMERAS):
            extrinsics = parsed.camera(subject, name).extrinsics
            np.testing.assert_allclose(extrinsics, human36m_scene.extrinsics(subject, c), rtol=0, atol=1e-9)
            np.testing.assert_allclose(extrinsics[:, :3] @ extrinsics[:, :3].T, np.eye(3), atol=1e-12)
            assert np.linalg.det(extrinsics[:, :3]) > 0


def test_names_are_told_by_the_table_and_not_by_their_beginnings() -> None:
    parsed = metadata.parse(TEXT.encode())

    def names(subject: str) -> list[tuple[str, int, str]]:
        return [(parsed.action_names[s.action], s.subaction, s.prefix) for s in parsed.sequences[subject]]

    assert names("S1") == [
        ("Directions", 2, "Directions"), ("Discussion", 1, "Discussion 1"), ("Phoning", 1, "Phoning 1"),
        ("SittingDown", 2, "SittingDown"), ("TakingPhoto", 1, "TakingPhoto 1"), ("WalkingDog", 1, "WalkingDog 1"),
        ("WalkingTogether", 1, "WalkTogether 1"),
    ]  # fmt: skip
    assert names("S11")[2:] == [
        ("Phoning", 1, "Phoning 3"), ("SittingDown", 2, "SittingDown"), ("TakingPhoto", 1, "Photo 1"),
        ("WalkingDog", 1, "WalkDog 1"), ("WalkingTogether", 1, "WalkTogether 1"),
    ]  # fmt: skip
    assert ("Discussion", 1, "Discussion 2") in names("S5") and ("SittingDown", 2, "SittingDown 1") in names(
        "S9"
    )
    assert names("S6") == []  # empty cells


def test_counts_belong_to_their_takes() -> None:
    parsed = metadata.parse(TEXT.encode())
    for subject in DISTRIBUTION.subjects:
        for sequence in parsed.sequences[subject]:
            key = sequence.action, sequence.subaction
            assert sequence.poses == DISTRIBUTION.count(*key)
            assert list(sequence.video_frames) == DISTRIBUTION.video_frames(subject, *key)


def test_unknown_cameras_and_subjects() -> None:
    parsed = metadata.parse(TEXT.encode())
    for subject, name in (("S12", human36m.CAMERAS[0]), ("S1", "1")):
        with refused(f"'{name}'", f"'{subject}'", "54138969"):
            parsed.camera(subject, name)


def cells(node: str, k: int) -> list[str]:
    """The texts of row k of a table."""
    table = re.search(rf"<{node}>.*?</{node}>", TEXT, re.DOTALL)
    return re.findall("<td>(.*?)</td>", table[0].split("\n")[k + 1])


def with_row(node: str, k: int, texts: list[str]) -> str:
    """The text with other cells in row k of a table."""
    before, table, after = re.split(rf"(<{node}>.*?</{node}>)", TEXT, flags=re.DOTALL)
    rows = table.split("\n")
    rows[k + 1] = "<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>"
    return before + "\n".join(rows) + after


def with_cell(node: str, k: int, column: int, text: str) -> str:
    """The text with another cell in row k of a table."""
    row = cells(node, k)
    return with_row(node, k, [*row[:column], text, *row[column + 1 :]])


COUNTS = cells("frames", 0)[3]  # of S1's first take that is read


def test_who_is_read_has_poses() -> None:
    assert sorted(metadata.READ) == sorted(human36m.POSE_SUBJECTS)
    assert sorted(metadata.READ) == sorted(subject for several in SPLITS.values() for subject in several)
    assert tuple(metadata.parse(TEXT.encode()).sequences) == metadata.READ


@pytest.mark.parametrize("subject", ["S2", "S3", "S4", "S10"])
@pytest.mark.parametrize("strange", ["Directions", "../x", "a/b.mp4", "", "[1002 1000]"])
def test_what_is_said_of_people_without_poses_is_not_read(subject: str, strange: str) -> None:
    """A name twice, no name, a malformed one; numbers that are none, too few, or of too few takes."""
    s = metadata.SUBJECTS.index(subject)
    assert cells("mapping", 3)[s + 2] == "Directions" and cells("mapping", 0)[s + 2] == subject
    whole = metadata.parse(TEXT.encode())
    numbers = cells("frames", s)[4]
    for text in (
        with_cell("mapping", 4, s + 2, strange),
        with_cell("frames", s, 4, strange),
        with_row("frames", s, ["", numbers]),
    ):
        assert text != TEXT
        assert metadata.parse(text.encode()).sequences == whole.sequences


def test_miscellaneous_takes_are_not_read() -> None:
    whole = metadata.parse(TEXT.encode())
    assert not [s for several in whole.sequences.values() for s in several if s.action == 1]
    for text in (
        TEXT.replace("[9 9 9 9 36]", "none"),
        TEXT.replace("<td>_ALL 1</td>", "<td>../x</td>"),
        TEXT.replace("<td>_ALL</td>", "<td>Directions</td>"),
        TEXT.replace("<td>_ALL</td>", "", 1),
        TEXT.replace("<td>1</td><td>2</td>", "<td>1</td><td>?</td>"),
    ):
        assert text != TEXT
        assert metadata.parse(text.encode()).sequences == whole.sequences


def drop_row(node: str, k: int) -> str:
    """The text without row k of a table."""
    before, table, after = re.split(rf"(<{node}>.*?</{node}>)", TEXT, flags=re.DOTALL)
    rows = table.split("\n")
    return before + "\n".join(rows[: k + 1] + rows[k + 2 :]) + after


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ("a.xml", "not readable XML", "no element found")),
        (TEXT[:-20], ("a.xml", "not readable XML")),
        ("<a></a>", ("a.xml", "no node actionnames")),
        (TEXT.replace("w0>", "w1>"), ("no node w0",)),
        (TEXT.replace("index2id>", "index>"), ("no node dbcameras/index2id",)),
        (TEXT.replace("mapping>", "map>"), ("no node mapping",)),
        (TEXT.replace("frames>", "counts>"), ("no node frames",)),
        (re.sub(r"(?s)<mapping>.*?</mapping>", "<mapping/>", TEXT), ("first row of mapping", "nobody")),
        (drop_row("mapping", 0), ("first row of mapping", "_ALL 1")),
        (TEXT.replace("<td>S4</td>", ""), ("first row of mapping", "S1 S2 S3 S5 S6")),
        (drop_row("frames", 0), ("frames has 10 rows", "11 subjects")),
        (drop_row("mapping", 3), ("frames has 10 cells", "S1", "9 rows of mapping")),
        (TEXT.replace("<td>Phoning 3</td>", ""), ("row 5 of mapping", "6 | 1 | Phoning 1")),
        (TEXT.replace("<td>6</td><td>1</td>", "<td>6</td><td>a</td>"), ("row 5 of mapping", "6 | a | Phoning 1")),
        (TEXT.replace("<td>6</td><td>1</td>", "<td>17</td><td>1</td>"), ("row 5 of mapping", "action 17")),
        (TEXT.replace("<td>Phoning 3</td>", "<td>../x</td>"), ("row 5 of mapping", "'../x'")),
        (TEXT.replace("<td>Phoning 3</td>", "<td>Directions</td>"), ("mapping", "'Directions' twice", "S11")),
        (with_cell("frames", 0, 3, "[9 9 9 36]"), ("'Directions'", "'[9 9 9 36]'", "5 numbers")),
        (with_cell("frames", 10, 3, COUNTS[1:-1]), ("frames of S11 'Directions'", f"'{COUNTS[1:-1]}'")),
        (TEXT.replace("<item>60457274</item>", ""), ("index2id", "3 cameras", "4 different")),
        (TEXT.replace("60457274", "54138969"), ("index2id", "4 cameras")),
        (with_w0("1 2 3").decode(), ("w0", "'[1 2 3]'", "300 numbers")),
        (with_w0(" ".join(["1"] * 299 + ["nan"])).decode(), ("w0", "[1 1 1", "300 numbers")),
        (with_w0(" ".join(["1"] * 299 + ["one"])).decode(), ("w0", "[1 1 1", "300 numbers")),
    ],
)  # fmt: skip
def test_what_is_malformed_is_told_in_one_sentence(text: str, facts: tuple[str, ...]) -> None:
    with refused(*facts) as caught:
        metadata.parse(text.encode(), "some/a.xml")
    assert str(caught.value).startswith("some/a.xml") and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_a_small_file_cannot_become_a_huge_one(encoding: str) -> None:
    entities = '<!ENTITY a0 "aaaaaaaaaa">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)
    )
    bomb = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [{entities}]><a>&a11;</a>'
    start = time.perf_counter()
    with refused("metadata.xml", "document type"):
        metadata.parse(bomb.encode(encoding))
    assert time.perf_counter() - start < 5
