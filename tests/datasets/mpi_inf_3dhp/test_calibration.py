"""`camera.calibration`: the published camera, the layout's tolerance, and every refusal."""

import numpy as np
import pytest

from datasets.mpi_inf_3dhp.calibration import read_calibration
from mcss_jax import geometry
from tests.distributions import mpi_inf_3dhp as distribution
from tests.refusals import refused

# Published numbers of one camera: docs/data_formats.md#mpi-inf-3dhp-camera-calibration.
PUBLISHED = """Skeletool Camera Calibration File V1.0
name          0
  sensor      10 10
  size        2048 2048
  animated    0
  intrinsic   1497.693 0 1024.704 0   0 1497.103 1051.394 0   0 0 1 0   0 0 0 1 \x20
  extrinsic   0.9650164 0.00488022 0.262144 -562.8666  -0.004488356 -0.9993728 0.0351275 1398.138
  radial      0
""".replace("1398.138", "1398.138  0.262151 -0.03507521 -0.9643893 3852.623   0 0 0 1 ")


def test_published_camera() -> None:
    camera = read_calibration(PUBLISHED, "it")[0]
    assert camera.size == (2048, 2048)
    point = np.array([-1286.56, 212.391, 1197.07])
    pixel = geometry.project(point, camera.intrinsics, np.zeros(5))
    np.testing.assert_allclose(pixel, [-584.953, 1317.02], atol=0.02)
    # The camera stands at chest height.
    centre = geometry.from_camera(np.zeros(3), camera.extrinsics)
    assert centre[1] == pytest.approx(1535, abs=2)


def test_every_camera_comes_back_whatever_the_spacing() -> None:
    what = distribution.Distribution()
    text = distribution.calibration(what, "S2/Seq1")
    for spelling in (text, text.replace("  ", " \t "), text.replace("\n", " \r\n\r\n")):
        cameras = read_calibration(spelling, "it")
        assert list(cameras) == list(range(14))
        for number, camera in cameras.items():
            intrinsics, extrinsics = distribution.camera(what, "S2/Seq1", number)
            np.testing.assert_allclose(camera.intrinsics, intrinsics, rtol=1e-8)
            np.testing.assert_allclose(camera.extrinsics, extrinsics, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("old", "new", "facts"),
    [
        ("Skeletool", "Blender", ("it:", "'Blender Camera Calibration File V1.0'")),
        (PUBLISHED, "", ("it:", "'nothing'")),
        ("  sensor      10 10\n", "", ("it:", "name, size, animated, intrinsic, extrinsic, radial")),
        ("  radial      0\n", "", ("it:", "name, sensor, size, animated, intrinsic, extrinsic")),
        ("2048 2048", "2048", ("'size 2048'", "2 number(s)")),
        ("1497.693", "wide", ("intrinsic wide", "16 number(s)")),
        ("1497.693", "nan", ("intrinsic nan", "16 number(s)")),
        (
            "radial      0",
            "radial      0.1",
            ("camera 0", "animated 0, radial 0.1"),
        ),
        ("animated    0", "animated    1", ("camera 0", "animated 1, radial 0")),
        ("0.9650164", "0.5650164", ("extrinsic", "camera 0", "rotation")),
        ("-0.9643893", "0.9643893", ("extrinsic", "camera 0", "rotation")),
        (PUBLISHED, PUBLISHED + PUBLISHED.partition("\n")[2], ("it:", "camera 0", "twice")),
    ],
)
def test_refusals(old: str, new: str, facts: tuple[str, ...]) -> None:
    assert old in PUBLISHED
    with refused(*facts):
        read_calibration(PUBLISHED.replace(old, new), "it")
