"""Saved galleries, and the user's own pictures against them."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from launch.retrieval import gallery, query_pictures
from mcss_jax.errors import UserError
from tests.mcss_jax import steps
from tests.refusals import refused

NETWORK = "0123456789abcdef"


def made(n: int = 6) -> gallery.Gallery:
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(n, 8)).astype(np.float32)
    return gallery.Gallery(
        embedding=embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
        pose=np.full((n, 17, 3), np.nan, np.float32),
        record=np.arange(n) // 2,
        view=np.arange(n) % 2,
        sequence=np.asarray([f"S{i} walking" for i in range(n)]),
        camera=np.asarray(["left", "right"] * (n // 2)),
        frame=10 * np.arange(n),
        time=0.2 * np.arange(n),
        split="set/1.0.0:test",
        fingerprint="f",
        network=NETWORK,
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    before = made()
    path = gallery.save(before, tmp_path / "deep" / "gallery.npz")
    after = gallery.load(path, NETWORK)
    for field in dataclasses.fields(gallery.Gallery):
        np.testing.assert_array_equal(getattr(after, field.name), getattr(before, field.name))
    assert after.name(3) == "S3 walking, camera right, frame 30"
    assert [file.name for file in path.parent.iterdir()] == ["gallery.npz"]


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = gallery.save(made(), tmp_path / "gallery.npz")
    with refused("gallery.npz", f"{NETWORK}"):
        gallery.load(path, "ffffffffffffffff")


def test_the_identity_is_of_weights_and_statistics() -> None:
    state = steps.make_state()
    same = dataclasses.replace(state, step=state.step + 1)
    assert gallery.identity(same) == gallery.identity(state) and len(gallery.identity(state)) == 16
    for part in ("params", "batch_stats"):
        leaves, tree = jax.tree.flatten(state.variables[part])
        leaves[0] = leaves[0] + np.float32(1e-6)
        other = dataclasses.replace(
            state, variables={**state.variables, part: jax.tree.unflatten(tree, leaves)}
        )
        assert gallery.identity(other) != gallery.identity(state)


def test_files_that_are_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no gallery .*none.npz; save one"):
        gallery.load(tmp_path / "none.npz", NETWORK)
    text, array, pickled, part, uneven = (tmp_path / f"{i}.npz" for i in range(5))
    text.write_text("embedding")
    with array.open("wb") as file:
        np.save(file, np.zeros(3))
    np.savez(pickled, **{f.name: np.asarray([object()]) for f in dataclasses.fields(gallery.Gallery)})
    np.savez(part, embedding=np.zeros((2, 8)))
    for path in (text, array, pickled, part):
        with pytest.raises(UserError, match=rf"{path.name} is not a gallery \("):
            gallery.load(path, NETWORK)
    gallery.save(dataclasses.replace(made(), frame=np.zeros(2, int)), uneven)
    with pytest.raises(UserError, match="columns differ in length"):
        gallery.load(uneven, NETWORK)


def test_saving_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        gallery.save(made(), tmp_path / "gallery.npz")
    assert not list(tmp_path.iterdir())


def test_pictures_of_any_size_become_squares(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[...] = (200, 40, 10)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    got = query_pictures.read(tmp_path / "wide.png", 30)
    assert got.shape == (30, 30, 3)
    assert (got[11:19] == (200, 40, 10)).all()  # the middle third, black above and below
    assert (got[:9] == 0).all() and (got[21:] == 0).all()
    grey = Image.fromarray(np.full((6, 3), 90, np.uint8))
    grey.save(tmp_path / "grey.png")
    assert query_pictures.read(tmp_path / "grey.png", 32)[16, 16].tolist() == [90, 90, 90]
    turned = Image.fromarray(
        np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[:, None, None], 3, 2).repeat(60, 1)
    )
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.jpg", exif=exif)
    upright = query_pictures.read(tmp_path / "turned.jpg", 60)
    assert int(upright[5, 30, 0]) > 180 > 60 > int(upright[55, 30, 0])


def test_folders_of_pictures(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in query_pictures.files_in(tmp_path)] == ["a.png", "b.JPG"]
    assert query_pictures.files_in(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(UserError, match="there is no folder .*none; --queries"):
        query_pictures.files_in(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no picture; expected files ending in .jpg"):
        query_pictures.files_in(tmp_path / "empty")
    for path in (tmp_path / "a.png", tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=f"{path.name} is not a readable picture"):
            query_pictures.read(path, 32)


def test_nearest_views_in_order_and_their_sheet() -> None:
    of = made()
    query = (of.embedding[[4, 1]] + 0.01).astype(np.float32)
    indices, distances = query_pictures.nearest(query, of, 3)
    expected = np.argsort(np.linalg.norm(query[:, None] - of.embedding[None], axis=2), axis=1)[:, :3]
    np.testing.assert_array_equal(indices, expected)
    for k in (0, 7):
        with refused(f"--neighbours={k}", "1", "6"):
            query_pictures.nearest(query, of, k)
    said = query_pictures.table(["x.png", "y.png"], of, indices, distances).splitlines()
    assert said[0] == "x.png" and said[1].split(maxsplit=1)[1] == of.name(4) and said[4] == "y.png"
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in (60, 120)]

    def drawn(index: int) -> np.ndarray:
        return np.full((8, 8, 3), 10 * index, np.uint8)

    for picture, shade in ((drawn, 40), (None, 232)):
        sheet = np.asarray(query_pictures.sheet(pictures, ["x", "y"], of, indices, distances, picture))
        tile = 160 + 8
        assert sheet[8 + 80, 8 + 80, 0] == 60 and sheet[8 + tile + 34 + 80, 8 + 80, 0] == 120
        assert sheet[8 + 80, 8 + tile + 80, 0] == shade  # the nearest of the first query is number 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embedding": np.full((6, 8), np.nan, np.float32)}, "is not a gallery of finite embeddings"),
        ({"pose": np.zeros((6, 16, 3), np.float32)}, "poses of 17 joints; save it again"),
        ({"record": np.zeros(6)}, r"its record is float64\[6\]; save it again"),
        ({"sequence": np.zeros((6, 2), "U3")}, r"its sequence is <U3\[6, 2\]"),
        ({"time": np.zeros(5)}, "its columns differ in length"),
    ],
)
def test_columns_of_another_kind(tmp_path: Path, change: dict[str, np.ndarray], said: str) -> None:
    path = tmp_path / "gallery.npz"
    np.savez(path, **{**gallery._columns(made()), **change})
    with pytest.raises(UserError, match=said):
        gallery.load(path, NETWORK)
