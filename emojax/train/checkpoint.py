"""Run checkpoints: trainable tree, optimizer, averaged weights and data position. The only file that knows Orbax's managers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from emojax.train.state import TrainState


class Checkpoints:
    """Checkpoints of one stage in one folder; a write is complete or does not exist."""

    def __init__(self, folder: Path, keep: int, every: int):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, save_interval_steps=every, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, None without one."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, data_state: Any, force: bool = False) -> None:
        """Writes in the background when `step` is due; `data_state` is the iterator's own state."""
        if step == self._manager.latest_step():
            return
        position = data_state.decode() if isinstance(data_state, bytes) else json.dumps(data_state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()), data=ocp.args.JsonSave({"position": position})
        )
        self._manager.save(step, args=items, force=force)

    def restore(self, abstract: TrainState) -> tuple[TrainState, str]:
        """(state in the shardings of `abstract`, position of the data iterator as JSON) of the newest checkpoint."""
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract._asdict()), data=ocp.args.JsonRestore())
        found = self._manager.restore(self._manager.latest_step(), args=items)
        return TrainState(**found.state), found.data["position"]

    def close(self) -> None:
        """Waits for writes that are under way."""
        self._manager.wait_until_finished()
        self._manager.close()


def abstract_of(state: TrainState) -> TrainState:
    """Shapes, dtypes and shardings of a state."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
