"""The Medical Segmentation Decathlon: dataset.json lists images, each with all its channels."""

from __future__ import annotations

from pathlib import Path

from backsplit.start.found import Found, FoundCase
from backsplit.start.names import channel_of, numbered, stem
from backsplit.start.readers.files import TEST_IMAGES, description, labels_of, there


def find_msd(root: Path) -> Found | None:
    """The Decathlon's folders; several channels are the volumes of one 4D file."""
    data = description(root)
    if data is None or not isinstance(data.get("training"), list):
        return None
    modality = data.get("modality") or {"0": "image"}
    names = [channel_of(str(name)) for _, name in sorted(modality.items(), key=lambda m: int(m[0]))]
    channels = numbered(names)
    cases = []
    for item in data["training"]:
        image, label = (root / str(item[key]) for key in ("image", "label"))
        case = stem(image.name) or image.name
        cases.append(FoundCase(case, {channels[0]: image}, there(label)))
    labels = labels_of(data)
    return Found(
        "msd",
        cases,
        channels,
        labels.values,
        notes=labels.notes,
        ignore=labels.ignore,
        lesions=labels.lesions,
        unused=[TEST_IMAGES],
        title=str(data.get("name", "")),
    )
