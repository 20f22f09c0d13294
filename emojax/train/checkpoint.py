"""Run checkpoints: trainable tree, optimizer, averaged weights and data position. The only file that knows Orbax's managers.

A write is complete or does not exist. After it, process 0 notes the SHA-256 of its files; a checkpoint whose files are not
those any more is passed over at restore, with a warning that names it, and the one before is taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from emojax.sharding import any_process, broadcast_text
from emojax.train.state import TrainState

DIGESTS = "digests"  # folder beside the stages' own: {stage}-{step}.json


class Checkpoints:
    """Checkpoints of one stage in one folder, local or remote.

    Args:
      folder: of all stages. stage: its name. keep: newest ones that are kept; the best validated one is kept besides.
    """

    def __init__(self, folder: epath.Path, stage: str, keep: int):
        best = BestN(
            get_metric_fn=lambda m: m["score"], n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            best_fn=lambda m: m["score"],  # without it scores are not written
            save_interval_steps=1,
            enable_async_checkpointing=True,
        )
        self._folder, self._stage = folder, stage
        self._manager = ocp.CheckpointManager(_absolute(folder) / stage, options=options)
        self._undigested: list[int] = []

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def save(
        self, step: int, state: TrainState, data_state: Any, score: float | None = None
    ) -> None:
        """Writes in the background; `data_state` is the iterator's own state, `score` that of the validation split."""
        if step in self._manager.all_steps():
            return
        self.wait()
        if jax.process_index() == 0:
            self._notes(step).unlink(missing_ok=True)  # of a checkpoint that was here before
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            data=ocp.args.JsonSave({"position": json.dumps(data_state)}),
        )
        self._manager.save(
            step, args=items, force=True, metrics=None if score is None else {"score": score}
        )
        self._undigested.append(step)

    def restore(
        self, abstract: TrainState, *, say: Callable[[str], None] = print, step: int | None = None
    ) -> tuple[TrainState, Any] | None:
        """(state in the shardings of `abstract`, state of the data iterator) of the newest checkpoint that is whole.

        Those that are not are told to `say`, and deleted once an earlier one is read, so that a later step can take their
        place. None where there is none at all. What can not be read although its files are whole is an error of this
        machine, and raised. The mesh and the number of processes may be others than those that saved. `step`: this one alone.

        Raises:
          ValueError: there are checkpoints, and not one is whole; none is deleted.
        """
        damaged: list[int] = []
        for number in self.steps() if step is None else [step]:
            noted = self._noted(number)
            fault = self._fault(number, noted)
            known_whole = bool(broadcast_text("noted" if noted else "")) and fault is None
            if fault is None:
                items = ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract._asdict()), data=ocp.args.JsonRestore()
                )
                try:
                    found = self._manager.restore(number, args=items)
                except Exception as error:
                    # Files that are known to be whole are not at fault: no memory, no network, another model.
                    if known_whole:
                        raise
                    fault = (
                        str(error).strip().splitlines()[0][:200]
                        if str(error).strip()
                        else type(error).__name__
                    )
                if not any_process(fault is not None):
                    for bad in damaged:
                        say(
                            f"warning: checkpoint {self._stage}/{number} is taken instead; {self._stage}/{bad} is deleted"
                        )
                        self._manager.delete(bad)
                        if jax.process_index() == 0:
                            self._notes(bad).unlink(missing_ok=True)
                    return TrainState(**found.state), json.loads(found.data["position"])
            say(f"warning: checkpoint {self._stage}/{number} is damaged ({fault})")
            damaged.append(number)
        if damaged and step is None:
            raise ValueError(
                f"no checkpoint of stage {self._stage} is whole; remove {self._folder / self._stage} to train the stage anew"
            )
        return None

    def best(self) -> int | None:
        """Step of the highest validation score; None where nothing was validated."""
        known = {}
        for step in self._manager.all_steps():
            if (self._folder / self._stage / str(step) / "metrics").exists():
                items = ocp.args.Composite(metrics=ocp.args.JsonRestore())
                known[step] = self._manager.restore(step, args=items).metrics["score"]
        return max(known, key=lambda s: (known[s], s)) if known else None

    def wait(self) -> None:
        """Until what is being written is there, and its files' digests noted."""
        self._manager.wait_until_finished()
        self.note()

    def note(self) -> None:
        """Notes the digests of what has been written since; called after every step, so that little goes without."""
        if not self._undigested or self._manager.is_saving_in_progress():
            return
        if jax.process_index() == 0:
            kept = set(self._manager.all_steps())
            (self._folder / DIGESTS).mkdir(parents=True, exist_ok=True)
            for step in kept & set(self._undigested):
                part = self._folder / DIGESTS / f"{self._stage}-{step}.part"
                part.write_text(json.dumps(digests(self._folder / self._stage / str(step))))
                part.replace(self._notes(step))
            for old in (self._folder / DIGESTS).glob(f"{self._stage}-*.json"):
                if int(old.stem.rpartition("-")[2]) not in kept:
                    old.unlink()
        self._undigested.clear()

    def _notes(self, step: int) -> epath.Path:
        return self._folder / DIGESTS / f"{self._stage}-{step}.json"

    def _noted(self, step: int) -> dict[str, str]:
        """The digests of a checkpoint as process 0 reads them; {} where there are none that can be read."""
        if jax.process_index() != 0 or not self._notes(step).exists():
            return {}
        try:
            return json.loads(self._notes(step).read_text())
        except ValueError:
            return {}

    def _fault(self, step: int, noted: dict[str, str]) -> str | None:
        """What is wrong with a checkpoint's files, as process 0 sees it; all processes get its answer."""
        fault = ""
        if noted:
            found = digests(self._folder / self._stage / str(step))
            wrong = sorted(
                name for name in {**noted, **found} if noted.get(name) != found.get(name)
            )
            fault = f"{wrong[0]} is not what was written" if wrong else ""
        return broadcast_text(fault) or None

    def close(self) -> None:
        """Waits for writes that are under way."""
        self.wait()
        self._manager.close()


def digests(folder: epath.Path) -> dict[str, str]:
    """{name: SHA-256} of every file below a folder."""
    out: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            out |= {f"{path.name}/{name}": digest for name, digest in digests(path).items()}
        else:
            out[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def _absolute(folder: epath.Path) -> epath.Path:
    return folder if "://" in str(folder) else folder.resolve()


def abstract_of(state: TrainState) -> TrainState:
    """Shapes, dtypes and shardings of a state."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
