"""Segmentations of 3D Slicer: masks that slicerio wrote come back by name."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import slicerio
from hypothesis import given
from hypothesis import strategies as st

from backsplit.errors import CaseError, Code
from backsplit.volume import Grid, read_label_grid, read_label_map, read_labels
from support.dicom import TILTED
from support.examples import examples

ROW, COLUMN = np.array(TILTED[:3]), np.array(TILTED[3:])
GRID = Grid(
    (9, 8, 7), (0.8, 1.1, 2.5), (-10.0, 20.0, -30.0),
    tuple(np.stack([ROW, COLUMN, np.cross(ROW, COLUMN)], axis=1).ravel()),
)  # fmt: skip
CONVERSION = "|1|" + "a sentence on what this parameter of the conversion is about " * 50


def write(path, layers, segments, grid=GRID, start=(0, 0, 0), **how):
    """Layers (n, z, y, x) as slicerio writes them; `segments` are (name, layer, value)."""
    affine = grid.affine_lps
    affine[:3, 3] = grid.to_mm(np.array([start]))[0]
    voxels = np.asarray(layers, np.uint8).transpose(0, 3, 2, 1)
    given_segments = [
        {"id": f"Segment_{n}", "name": name, "layer": layer, "labelValue": value,
         "color": [0.5, 0.5, 0.5], "status": "inprogress"}
        for n, (name, layer, value) in enumerate(segments)
    ]  # fmt: skip
    segmentation = {
        "voxels": voxels if len(voxels) > 1 else voxels[0],
        "ijkToLPS": affine,
        "containedRepresentationNames": ["Binary labelmap", "Closed surface"],
        "conversionParameters": [{"name": "n", "value": 1, "description": CONVERSION}],
        "segments": given_segments,
    }
    slicerio.write_segmentation(str(path), segmentation | how)
    return path


def mask_of(labels, name):
    value = labels.names[name]
    present = np.unique(labels.array).tolist()
    return np.isin(labels.array, [v for v in present if value in labels.overlaps.get(v, (v,))])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slicer")


@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.01, 0.3, 0.7]),
       shared=st.booleans(), crop=st.booleans(), tight=st.booleans())  # fmt: skip
@examples(300)
def test_random_masks_come_back(folder, seed, density, shared, crop, tight):
    """Segments that overlap lie in layers of their own; the others share one."""
    rng = np.random.default_rng(seed)
    masks = rng.random((3, *GRID.shape)) < density
    if tight:
        masks[:, [0, 1, 4, 5, 6]] = False
    masks[0, 2, 3, 3] = True
    layers, places = masks.astype(np.uint8), [(0, 1), (1, 1), (2, 1)]
    if shared:  # the third lies in the second's layer
        masks[2] &= ~masks[1]
        layers, places = np.stack([masks[0], masks[1] + 2 * masks[2]]), [(0, 1), (1, 1), (1, 2)]
    names = ["tumor", "edema", "organ at risk: heart"]
    start = np.zeros(3, int)
    if crop:
        held = np.argwhere(masks.any(axis=0))
        start, stop = held.min(axis=0), held.max(axis=0) + 1
        layers = layers[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    segments = [(name, *at) for name, at in zip(names, places, strict=True)]
    path = write(folder / "a.seg.nrrd", layers, segments, start=start)
    labels = read_label_map(path, GRID)
    assert labels.grid is GRID and list(labels.names) == names
    assert read_label_grid(path, GRID) is GRID
    for name, mask in zip(names, masks, strict=True):
        np.testing.assert_array_equal(mask_of(labels, name), mask)
        drawn = labels.drawn[labels.names[name]]
        assert (drawn.kind, drawn.parts, drawn.voxels) == ("voxels", 0, mask.sum())
        assert drawn.ml == pytest.approx(mask.sum() * GRID.voxel_ml)
    only = read_label_map(path, GRID, ["tu*"])
    np.testing.assert_array_equal(only.array > 0, masks[0])


def one(value=1):
    mask = np.zeros((1, *GRID.shape), np.uint8)
    mask[0, 2:4, 3:6, 1:5] = value
    return mask


def test_values_of_one_layer_are_the_numbers(folder):
    layers = one(3)
    layers[0, 5, 5, 5] = 7
    path = write(folder / "a.nrrd", layers, [("tumor", 0, 3), ("cyst", 0, 7)])
    labels = read_label_map(path, GRID)
    np.testing.assert_array_equal(labels.array, layers[0])  # whatever its name is
    assert dict(labels.names) == {"tumor": 3, "cyst": 7}


def test_files_of_old_versions_have_a_layer_for_each_segment(folder):
    layers = np.concatenate([one(), np.roll(one(), 1, axis=1)])
    path = write(folder / "old.seg.nrrd", layers, [("tumor", 0, 1), ("cyst", 1, 1)])
    lines = path.read_bytes().split(b"\n")
    kept = [line for line in lines if b"_Layer:=" not in line and b"_LabelValue:=" not in line]
    path.write_bytes(b"\n".join(kept))
    labels = read_label_map(path, GRID)
    for name, mask in zip(("tumor", "cyst"), layers, strict=True):
        np.testing.assert_array_equal(mask_of(labels, name), mask)


def test_other_lattices_keep_their_own_grid(folder):
    other = Grid(GRID.size, (1.0, 1.0, 2.0), GRID.origin, GRID.direction)
    path = write(folder / "a.seg.nrrd", one(), [("tumor", 0, 1)], other)
    labels = read_label_map(path, GRID)
    assert labels.grid.is_same(other) and read_label_grid(path, GRID).is_same(other)
    np.testing.assert_array_equal(labels.array, one()[0])


def test_axes_in_another_order_are_the_same_voxels(folder):
    flipped = np.reshape(GRID.direction, (3, 3)) * [1, -1, 1]
    far = tuple(GRID.to_mm(np.array([[0, GRID.shape[1] - 1, 0]]))[0])
    other = Grid(GRID.size, GRID.spacing, far, tuple(flipped.ravel()))
    path = write(folder / "a.seg.nrrd", one()[:, :, ::-1], [("tumor", 0, 1)], other)
    np.testing.assert_array_equal(read_label_map(path, GRID).array, one()[0])


def code_of(path, grid=GRID):
    with pytest.raises(CaseError) as caught:
        read_label_map(path, grid)
    assert str(path) in caught.value.what
    return caught.value.code


def test_voxels_outside_the_image_are_refused(folder):
    path = write(folder / "a.seg.nrrd", one(), [("tumor", 0, 1)], start=(4, 0, 0))
    assert code_of(path) is Code.GRID_NO_OVERLAP
    beyond = np.zeros((1, 20, 8, 9), np.uint8)  # a larger extent with nothing in it is none
    beyond[0, 2, 3, 3] = 1
    assert read_label_map(write(path, beyond, [("tumor", 0, 1)]), GRID).array.sum() == 1


@pytest.mark.parametrize(
    ("segments", "code"),
    [
        ([("tumor", 0, 2)], Code.LABEL_UNDECLARED),
        ([("tumor", 0, 1), ("cyst", 0, 1)], Code.FILE_UNREADABLE),
        ([("tumor", 5, 1)], Code.FILE_UNREADABLE),
        ([("tumor", 0, 0)], Code.FILE_UNREADABLE),
        ([("tumor", "x", 1)], Code.FILE_UNREADABLE),
    ],
)
def test_values_and_segments_that_do_not_fit_are_refused(folder, segments, code):
    assert code_of(write(folder / "a.seg.nrrd", one(), segments)) is code


def test_a_segmentation_without_voxels_of_its_own_is_refused(folder):
    path = write(folder / "a.seg.nrrd", one(), [("tumor", 0, 1)],
                 containedRepresentationNames=["Fractional labelmap"])  # fmt: skip
    assert code_of(path) is Code.LABEL_NOT_INTEGER


def test_layers_are_no_image_and_plain_files_have_no_names(folder):
    layers = np.concatenate([one(), one()])
    path = write(folder / "a.seg.nrrd", layers, [("tumor", 0, 1), ("cyst", 1, 1)])
    with pytest.raises(CaseError) as caught:
        read_labels(path)
    assert caught.value.code is Code.NOT_3D
    write(path, one(), [])
    assert not read_label_map(path, GRID).names
    path.write_bytes(path.read_bytes()[:-9])
    assert code_of(path) is Code.FILE_UNREADABLE


ODD = ("", "-1", "0", "1.5", "x", "9" * 30, "9" * 4500, "nan", "(1,2,3)", "none", "ä", "%s")
KEYS = ("Segment0_ID", "Segment0_Name", "Segment0_Layer", "Segment0_LabelValue",
        "Segment1_Layer", "Segment1_LabelValue", "Segmentation_ContainedRepresentationNames",
        "sizes", "dimension", "space", "space directions", "space origin", "kinds", "type",
        "encoding", "endian")  # fmt: skip


def hostile(content):
    """Headers in which a field is missing, odd or said twice; and damaged bytes."""
    lines = content.split(b"\n\n")[0].split(b"\n")
    rest = content[len(b"\n".join(lines)) :]
    for key in KEYS:
        (at,) = [n for n, line in enumerate(lines) if line.startswith(key.encode() + b":")] or [-1]
        sign = b":=" if key.startswith("Segment") else b": "
        for value in ODD:
            line = key.encode() + sign + value.encode()
            changed = [*lines[:at], line, *lines[at + 1 :]] if at > 0 else [*lines, line]
            yield b"\n".join(changed) + rest
        if at > 0:
            yield b"\n".join([*lines[:at], *lines[at + 1 :]]) + rest
            yield b"\n".join([*lines, lines[at]]) + rest
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(content)
        for place in rng.integers(4, len(data), rng.integers(1, 10)):
            data[place] = rng.integers(0, 256)
        yield bytes(data)


def test_hostile_headers_are_read_right_or_refused(folder):
    masks = np.concatenate([one(), np.roll(one(), 1, axis=1)]).astype(bool)
    path = write(folder / "a.seg.nrrd", masks, [("tumor", 0, 1), ("cyst", 1, 1)])
    whole = {mask.tobytes() for mask in masks}
    codes = Counter()
    for content in hostile(path.read_bytes()):
        path.write_bytes(content)
        try:
            labels = read_label_map(path, GRID)
        except CaseError as error:
            codes[str(error.code)] += 1
            continue
        codes["read"] += 1
        if not labels.grid.is_same(GRID):  # it says that it lies elsewhere
            continue
        found = [mask_of(labels, name) for name in labels.names]
        assert {mask.tobytes() for mask in found if mask.any()} <= whole, content[:2000]
        assert sum(not mask.any() for mask in found) == len(labels.notes)
    print(codes)
    assert sum(codes.values()) > 250 and codes["FILE_UNREADABLE"] > 50
