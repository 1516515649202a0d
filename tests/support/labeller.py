"""A program that labels by intensity, as a user's own: numpy and the NIfTI header, nothing else.

    python labeller.py IMAGE OUTPUT [--how HOW]     one case
    python labeller.py IMAGES OUTPUTS [--how HOW]   a folder of cases

HOW names what goes wrong, in the case whose image has the intensity 9999 anywhere (or in all).
"""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

VERSION = "1.0"
SLEEP = "import time; time.sleep(600)"


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    how = sys.argv[4] if sys.argv[3:4] == ["--how"] else "well"
    images = sorted(source.glob("*.nii.gz")) if source.is_dir() else [source]
    print(f"labeller {VERSION} on {sys.argv[1:]} of {len(images)}", flush=True)
    Path("litter.tmp").write_text("left behind")
    Path(os.environ["TMPDIR"], "more litter").write_text("left behind")
    for image in images:
        label(image, target / image.name if source.is_dir() else target, how)


def label(source: Path, target: Path, how: str) -> None:
    content = gzip.decompress(source.read_bytes())
    header = bytearray(content[:352])
    shape = struct.unpack_from("<8h", header, 40)[1:4]
    kind = {4: "<i2", 16: "<f4"}[struct.unpack_from("<h", header, 70)[0]]
    image = np.frombuffer(content, kind, int(np.prod(shape)), 352)
    labels = ((image > -500).astype(np.uint8) + (image > 250)).astype(np.uint8)
    bad = bool((image == 9999).any())
    if bad and how == "fail":
        print("RuntimeError: cannot allocate a thing", file=sys.stderr)
        sys.exit(3)
    if bad and how == "crash":
        target.write_bytes(gzip.compress(bytes(header)))  # half a file
        os.kill(os.getpid(), 11)
    if bad and how == "hang":
        child = subprocess.Popen([sys.executable, "-c", SLEEP])
        Path(os.environ["CHILD"]).write_text(str(child.pid))
        time.sleep(600)
    if bad and how == "shift":
        struct.pack_into("<f", header, 292, struct.unpack_from("<f", header, 292)[0] + 50)
        struct.pack_into("<f", header, 268, struct.unpack_from("<f", header, 268)[0] + 50)
    if bad and how == "unoriented":
        struct.pack_into("<2h", header, 252, 0, 0)
    if bad and how == "four":
        struct.pack_into("<5h", header, 40, 4, *shape[:2], shape[2] // 2, 2)
    if bad and how == "nothing":
        return
    if bad and how == "text":
        target.write_text("no label map")
        return
    if bad and how == "folder":
        target.mkdir()
        target = target / "bone.nii.gz"
    if bad and how == "undeclared":
        labels[labels == 2] = 7
    struct.pack_into("<2h", header, 70, 2, 8)
    if bad and how == "fraction":
        labels = labels.astype("<f4") + np.float32(0.4)
        struct.pack_into("<2h", header, 70, 16, 32)
    target.write_bytes(gzip.compress(bytes(header) + labels.tobytes(), mtime=0))


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(VERSION)
    else:
        main()
