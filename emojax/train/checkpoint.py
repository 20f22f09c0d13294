"""Checkpoints of a run: training state and position in the data. The only user of Orbax's managers.

A checkpoint is complete or does not exist. After each write, process 0 records the SHA-256 of its
files. A checkpoint whose files have changed since is skipped at restore, with a warning that names
it, and the previous one is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from emojax.bundle.errors import first_line
from emojax.sharding import any_process, broadcast_text, shape_struct
from emojax.train.state import TrainState

DIGESTS = "digests"  # folder next to those of the stages: {stage}-{step}.json

logger = logging.getLogger(__name__)


class Checkpoints:
    """Checkpoints of one stage in one folder, local or remote.

    Args:
      folder: folder of all stages.
      stage: name of the stage.
      keep: how many of the newest checkpoints are kept; the best validated one is kept too.
    """

    def __init__(self, folder: epath.Path, stage: str, *, keep: int) -> None:
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
        self._without_digest: list[int] = []

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def save(
        self, step: int, state: TrainState, data_state: Any, *, score: float | None = None
    ) -> None:
        """Saves a step in the background.

        Args:
          step: its number.
          state: the training state after it.
          data_state: state of the data iterator.
          score: score of the validation split, if it was evaluated.
        """
        if step in self._manager.all_steps():
            return
        self.wait()
        if jax.process_index() == 0:
            self._digest_file(step).unlink(missing_ok=True)  # of an earlier checkpoint of this step
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            data=ocp.args.JsonSave({"position": json.dumps(data_state)}),
        )
        self._manager.save(
            step, args=items, force=True, metrics=None if score is None else {"score": score}
        )
        self._without_digest.append(step)

    def restore(
        self, abstract: TrainState, *, step: int | None = None
    ) -> tuple[TrainState, Any] | None:
        """Restores the newest intact checkpoint; mesh and number of processes may have changed.

        Damaged checkpoints are reported. They are deleted once an earlier one has been read, so
        that a later step can be saved in their place.

        Args:
          abstract: shapes and shardings of the state.
          step: restore only this checkpoint.

        Returns:
          (state, state of the data iterator), or None if there is no checkpoint.

        Raises:
          ValueError: there are checkpoints, but none is intact; none is deleted.
          Exception: a checkpoint with intact files cannot be read; the cause is this machine
            (memory, network) or another model.
        """
        damaged: list[int] = []
        for number in self.steps() if step is None else [step]:
            recorded = self._recorded_digests(number)
            fault = self._fault(number, recorded)
            intact = bool(broadcast_text("recorded" if recorded else "")) and fault is None
            if fault is None:
                try:
                    restored = self._read(number, abstract)
                except Exception as error:
                    if intact:
                        raise
                    fault = first_line(error)
                if not any_process(fault is not None):
                    self._delete(damaged, instead=number)
                    return restored
            logger.warning("warning: checkpoint %s/%d is damaged (%s)", self._stage, number, fault)
            damaged.append(number)
        if damaged and step is None:
            raise ValueError(
                f"no checkpoint of stage {self._stage} is intact; remove "
                f"{self._folder / self._stage} to train the stage from its start"
            )
        return None

    def best(self) -> int | None:
        """Step of the highest validation score; None if nothing was validated."""
        scores = {}
        for step in self._manager.all_steps():
            if (self._folder / self._stage / str(step) / "metrics").exists():
                items = ocp.args.Composite(metrics=ocp.args.JsonRestore())
                scores[step] = self._manager.restore(step, args=items).metrics["score"]
        return max(scores, key=lambda s: (scores[s], s)) if scores else None

    def wait(self) -> None:
        """Waits until pending checkpoints are written and their digests recorded."""
        self._manager.wait_until_finished()
        self.record_digests()

    def record_digests(self) -> None:
        """Records the digests of finished writes.

        Called after every step, so that few checkpoints are without digests after a crash.
        """
        if not self._without_digest or self._manager.is_saving_in_progress():
            return
        if jax.process_index() == 0:
            kept = set(self._manager.all_steps())
            (self._folder / DIGESTS).mkdir(parents=True, exist_ok=True)
            for step in kept & set(self._without_digest):
                part = self._folder / DIGESTS / f"{self._stage}-{step}.part"
                part.write_text(json.dumps(digests(self._folder / self._stage / str(step))))
                part.replace(self._digest_file(step))
            for old in (self._folder / DIGESTS).glob(f"{self._stage}-*.json"):
                if int(old.stem.rpartition("-")[2]) not in kept:
                    old.unlink()
        self._without_digest.clear()

    def close(self) -> None:
        """Waits for pending writes and releases the manager."""
        self.wait()
        self._manager.close()

    def _read(self, step: int, abstract: TrainState) -> tuple[TrainState, Any]:
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract._asdict()), data=ocp.args.JsonRestore()
        )
        saved = self._manager.restore(step, args=items)
        return TrainState(**saved.state), json.loads(saved.data["position"])

    def _delete(self, damaged: list[int], *, instead: int) -> None:
        for step in damaged:
            logger.warning(
                "warning: checkpoint %s/%d is used instead; %s/%d is deleted",
                self._stage,
                instead,
                self._stage,
                step,
            )
            self._manager.delete(step)
            if jax.process_index() == 0:
                self._digest_file(step).unlink(missing_ok=True)

    def _digest_file(self, step: int) -> epath.Path:
        return self._folder / DIGESTS / f"{self._stage}-{step}.json"

    def _recorded_digests(self, step: int) -> dict[str, str]:
        """The digests of a checkpoint as process 0 reads them; {} if there are none."""
        if jax.process_index() != 0 or not self._digest_file(step).exists():
            return {}
        try:
            recorded: dict[str, str] = json.loads(self._digest_file(step).read_text())
            return recorded
        except ValueError:
            return {}

    def _fault(self, step: int, recorded: dict[str, str]) -> str | None:
        """What is wrong with a checkpoint's files; process 0 checks, all get its answer."""
        fault = ""
        if recorded:
            current = digests(self._folder / self._stage / str(step))
            wrong = sorted(
                name for name in {**recorded, **current} if recorded.get(name) != current.get(name)
            )
            fault = f"{wrong[0]} is not what was written" if wrong else ""
        return broadcast_text(fault) or None


def digests(folder: epath.Path) -> dict[str, str]:
    """{name: SHA-256} of every file below a folder."""
    out: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            out |= {f"{path.name}/{name}": digest for name, digest in digests(path).items()}
        else:
            out[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def abstract_of(state: TrainState) -> TrainState:
    """Shapes, dtypes and shardings of a state."""
    shapes: TrainState = jax.tree.map(lambda x: shape_struct(x.shape, x.dtype, x.sharding), state)
    return shapes


def _absolute(folder: epath.Path) -> epath.Path:
    return folder if "://" in str(folder) else folder.resolve()
