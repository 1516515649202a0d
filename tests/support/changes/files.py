"""Changes of every kind of input file."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping

import numpy as np

from support.project import load, save
from support.tiny import SHAPE, Change, Tiny, edit_in_place, image, lesions, organs


def write_volume(name: str, array: Callable[[], np.ndarray]) -> Change:
    def change(tiny: Tiny) -> None:
        save(tiny.folder / name, array())

    return change


def same_size(name: str) -> Change:
    """Another content of the same length, with the time of the one before."""

    def change(tiny: Tiny) -> None:
        path = tiny.folder / name
        before = path.read_bytes()
        array = load(path)
        save(path, np.ascontiguousarray(array[:, :, ::-1]))
        flipped = gzip.decompress(path.read_bytes())
        path.write_bytes(before)
        data = gzip.compress(flipped, 9, mtime=0)
        # NIfTI in gzip may have bytes after it: both are as long as the longer one
        edit_in_place(path, data + b"\0" * (len(before) - len(data)))

    return change


def gone(name: str) -> Change:
    def change(tiny: Tiny) -> None:
        (tiny.folder / name).unlink(missing_ok=True)

    return change


def cut(name: str) -> Change:
    def change(tiny: Tiny) -> None:
        path = tiny.folder / name
        if path.exists():
            path.write_bytes(path.read_bytes()[:-20])

    return change


def touched(name: str) -> Change:
    def change(tiny: Tiny) -> None:
        path = tiny.folder / name
        if path.exists():
            path.write_bytes(path.read_bytes())

    return change


def text(name: str, content: str) -> Change:
    def change(tiny: Tiny) -> None:
        (tiny.folder / name).write_text(content)

    return change


FILES: Mapping[str, tuple[str, Callable[[], np.ndarray]]] = {
    "image": ("images/a.nii.gz", lambda: image(7)),
    "other channel": ("images/a_mr.nii.gz", lambda: image(8)),
    "lesion": ("lesions/a.nii.gz", lambda: lesions(1)),
    "multilabel": ("organs/a.nii.gz", lambda: organs(1)),
    "binary": ("masks/a/kidney.nii.gz", lambda: (organs(0) == 2).astype(np.uint8)),
}


def file_changes() -> dict[str, Change]:
    found: dict[str, Change] = {}
    for kind, (name, other) in FILES.items():
        found[f"{kind} edited"] = write_volume(name, other)
        found[f"{kind} edited, same size and time"] = same_size(name)
        found[f"{kind} removed"] = gone(name)
        found[f"{kind} cut"] = cut(name)
        found[f"{kind} touched"] = touched(name)
        found[f"{kind} on another grid"] = write_volume(name, lambda o=other: o()[:-1])
    found["binary file added"] = write_volume(
        "masks/b/liver.nii.gz", lambda: (organs(0) == 1).astype(np.uint8)
    )
    undeclared = np.zeros(SHAPE, np.uint8)
    undeclared[3, 3, 3] = 9
    found["lesion with an undeclared value"] = write_volume("lesions/a.nii.gz", lambda: undeclared)
    found["multilabel with another value"] = write_volume("organs/a.nii.gz", lambda: undeclared)
    found["binary not binary"] = write_volume("masks/a/kidney.nii.gz", lambda: organs(0))
    header = "case\tdecision\tnote\n"
    for name, rows in {
        "edited": "a\treject\tno\n", "one more": "b\treview\tlook\na\treview\tlook\n",
        "note": "b\treview\tsee\n", "other": "c\treview\tlook\n",
    }.items():  # fmt: skip
        found[f"decisions {name}"] = text("decisions.tsv", header + rows)
    found["decisions removed"] = gone("decisions.tsv")
    found["decisions same size and time"] = lambda tiny: edit_in_place(
        tiny.folder / "decisions.tsv", (header + "c\treview\tlook\n").encode()
    )
    return found
