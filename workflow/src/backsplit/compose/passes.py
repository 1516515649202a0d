"""Passes over whole label maps, compiled."""

from __future__ import annotations

from backsplit.volume.compiled import Compiled
from backsplit.volume.grid import Array


@Compiled
def lay(
    states: Array,
    values: Array,
    table: Array,
    first: int,
    takes: Array,
    claims: Array,
    met: Array,
) -> None:
    """Lay a layer beneath the states that hold voxels; `states` is changed in place.

    Parameters
    ----------
    states : state that holds each voxel, 0 for nobody, (n,)
    values : the layer's values, (n,)
    table : value to state, 0 where the layer claims nothing
    first : lowest state of the layer
    takes : [holder, state - first], 1 where an exception gives the voxel to the layer
    claims : counts of each value that claims something, added to
    met : [holder, state - first], counts of voxels that both claim, added to
    """
    # equal neighbours come in runs: counters are touched once a run
    last_value, last_holder, state, run = 0, 0, 0, 0
    for i in range(len(values)):
        value = values[i]
        if value == 0 and last_value == 0:
            continue
        holder = states[i]
        if value != last_value or holder != last_holder:
            if state != 0:
                claims[last_value] += run
                if last_holder != 0:
                    met[last_holder, state - first] += run
            last_value, last_holder, run = value, holder, 0
            state = table[value]
        run += 1
        if state != 0 and (holder == 0 or takes[holder, state - first] != 0):
            states[i] = state
    if state != 0:
        claims[last_value] += run
        if last_holder != 0:
            met[last_holder, state - first] += run


@Compiled
def relabel(values: Array, table: Array, out: Array) -> None:
    """Write `table[values]` to `out`, which may be `values` itself; all are flat."""
    for i in range(len(values)):
        out[i] = table[values[i]]
