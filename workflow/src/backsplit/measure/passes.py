"""Passes over image and label map that gather the statistics of every label at once, compiled."""

from __future__ import annotations

import numpy as np

from backsplit.volume.compiled import Compiled
from backsplit.volume.grid import Array

_ALONG = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
_ACROSS_FACES = [(0, 1, -1), (0, 1, 1), (1, 0, -1), (1, 0, 1), (1, -1, 0), (1, 1, 0)]
_ACROSS_THE_CUBE = [(1, -1, -1), (1, -1, 1), (1, 1, -1), (1, 1, 1)]
DIRECTIONS = np.array([*_ALONG, *_ACROSS_FACES, *_ACROSS_THE_CUBE])
"""Half of a voxel's 26 neighbours, (z, y, x): along axes, across faces, across the cube."""

SEVERAL = -1
"""Owner of a cavity that more than one label encloses, or that is open."""


@Compiled
def gather_shapes(
    labels: Array, directions: Array, sums: Array, boxes: Array, faces: Array, cuts: Array
) -> None:
    """Where each label but 0 lies and how often lines cut its border.

    Parameters
    ----------
    labels : ids, (z, y, x)
    directions : `DIRECTIONS`; the first must be along x
    sums : [id, 0..9]: voxels, sums of z, y, x, and of zz, yy, xx, zy, zx, yx, added to
    boxes : [id, axis, 0..1]: lowest and highest index, lowered and raised
    faces : [id, axis, 0..1]: voxels on the first and last layer of the volume, added to
    cuts : [id, direction]: voxels whose neighbour to either side has another label or is outside
        the volume, added to
    """
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            stop = 0
            while stop < nx:
                start = stop
                label = labels[z, y, start]
                while stop < nx and labels[z, y, stop] == label:
                    stop += 1
                if label == 0:
                    continue
                count = stop - start
                sums[label, 0] += count
                sums[label, 1] += count * z
                sums[label, 2] += count * y
                along = (start + stop - 1) * count // 2
                last = stop - 1
                squares = (
                    last * (last + 1) * (2 * last + 1) - (start - 1) * start * (2 * start - 1)
                ) // 6
                sums[label, 3] += along
                sums[label, 4] += count * z * z
                sums[label, 5] += count * y * y
                sums[label, 6] += squares
                sums[label, 7] += count * z * y
                sums[label, 8] += along * z
                sums[label, 9] += along * y
                boxes[label, 0, 0] = min(boxes[label, 0, 0], z)
                boxes[label, 0, 1] = max(boxes[label, 0, 1], z)
                boxes[label, 1, 0] = min(boxes[label, 1, 0], y)
                boxes[label, 1, 1] = max(boxes[label, 1, 1], y)
                boxes[label, 2, 0] = min(boxes[label, 2, 0], start)
                boxes[label, 2, 1] = max(boxes[label, 2, 1], stop - 1)
                faces[label, 0, 0] += count * (z == 0)
                faces[label, 0, 1] += count * (z == nz - 1)
                faces[label, 1, 0] += count * (y == 0)
                faces[label, 1, 1] += count * (y == ny - 1)
                faces[label, 2, 0] += start == 0
                faces[label, 2, 1] += stop == nx
                cuts[label, 0] += 2
                for d in range(1, len(directions)):
                    # what is cut on the way there is cut on the way back from the voxel there,
                    # unless that lies outside: so one side is looked at, and counted twice
                    oz, oy, dx = z + directions[d, 0], y + directions[d, 1], directions[d, 2]
                    first, last = max(start + dx, 0), min(stop + dx, nx)
                    inside = 0
                    if 0 <= oz < nz and 0 <= oy < ny:
                        for x in range(first, last):
                            inside += labels[oz, oy, x] == label
                    cuts[label, d] += 2 * (count - inside)


@Compiled
def gather_intensities(
    image: Array, labels: Array, low: float, width: float, bins: Array, sums: Array, ends: Array
) -> None:
    """Statistics of the image's intensities in each label.

    Parameters
    ----------
    image : intensities, (n,)
    labels : ids, (n,)
    low, width : a value v falls into the bin (v - low) / width
    bins : [id, bin]: histograms, added to
    sums : [id, 0..1]: sums of (v - low) and of its square, added to
    ends : [id, 0..1]: lowest and highest intensity, lowered and raised
    """
    highest = bins.shape[1] - 1
    for i in range(len(labels)):
        label = labels[i]
        value = float(image[i])
        above = value - low
        bins[label, min(max(int(above / width), 0), highest)] += 1
        sums[label, 0] += above
        sums[label, 1] += above * above
        ends[label, 0] = min(ends[label, 0], value)
        ends[label, 1] = max(ends[label, 1], value)


@Compiled
def gather_edges(image: Array, labels: Array, areas: Array, edges: Array) -> None:
    """Intensities on both sides of each label's surface, and how they change within it.

    Parameters
    ----------
    image, labels : intensities and ids, (z, y, x)
    areas : of a voxel's face across each axis, (z, y, x)
    edges : [id, 0..6], weighted by area and added to: surface; sums of the intensity just inside,
        just outside, and of the size of the step; surface shared with another label but 0;
        area between neighbours within, and the sum of the size of their steps
    """
    nz, ny, nx = labels.shape
    for axis in range(3):
        dz, dy, dx = axis == 0, axis == 1, axis == 2
        area = areas[axis]
        for z in range(nz - dz):
            for y in range(ny - dy):
                for x in range(nx - dx):
                    a, b = labels[z, y, x], labels[z + dz, y + dy, x + dx]
                    if a == 0 and b == 0:
                        continue
                    here, there = float(image[z, y, x]), float(image[z + dz, y + dy, x + dx])
                    step = abs(here - there) * area
                    if a == b:
                        edges[a, 5] += area
                        edges[a, 6] += step
                        continue
                    shared = area * (a != 0 and b != 0)
                    edges[a, 0] += area
                    edges[a, 1] += here * area
                    edges[a, 2] += there * area
                    edges[a, 3] += step
                    edges[a, 4] += shared
                    edges[b, 0] += area
                    edges[b, 1] += there * area
                    edges[b, 2] += here * area
                    edges[b, 3] += step
                    edges[b, 4] += shared


@Compiled
def gather_components(labels: Array, components: Array, owner: Array, sums: Array) -> None:
    """Label, size and place of each connected component.

    Parameters
    ----------
    labels, components : ids and numbers of components, (z, y, x)
    owner : [component]: its label, written
    sums : [component, 0..3]: voxels and sums of z, y, x, added to
    """
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                component = components[z, y, x]
                if component == 0:
                    continue
                owner[component] = labels[z, y, x]
                sums[component, 0] += 1
                sums[component, 1] += z
                sums[component, 2] += y
                sums[component, 3] += x


@Compiled
def gather_cavities(labels: Array, cavities: Array, owner: Array, voxels: Array) -> None:
    """Find the label that encloses each region of background.

    Parameters
    ----------
    labels, cavities : ids and numbers of regions of background, (z, y, x)
    owner : [region]: starts as 0, becomes the label round it, or `SEVERAL`
    voxels : [region]: added to
    """
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                region = cavities[z, y, x]
                if region == 0:
                    continue
                voxels[region] += 1
                if owner[region] == -1:
                    continue
                for d in range(6):
                    oz = z + (d == 0) - (d == 1)
                    oy = y + (d == 2) - (d == 3)
                    ox = x + (d == 4) - (d == 5)
                    if oz < 0 or oz >= nz or oy < 0 or oy >= ny or ox < 0 or ox >= nx:
                        owner[region] = -1
                        break
                    label = labels[oz, oy, ox]
                    if label == 0 or label == owner[region]:
                        continue
                    owner[region] = label if owner[region] == 0 else -1
                    if owner[region] == -1:
                        break
