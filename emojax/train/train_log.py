"""Training logs; docs/logs.md explains every number.

Files: `log.jsonl` (one line per step), `speed.jsonl`, `validation.jsonl`, optionally
`clips-N.jsonl`, and TensorBoard. Log records: one line every `log_every` steps, and warnings about
steps whose loss is not finite or much higher than before.
"""

from __future__ import annotations

import json
import logging
import resource
import statistics
import time
from collections import Counter
from typing import Any

import jax
import numpy as np
from etils import epath

from emojax.train.run_folder import append

# Peak bfloat16 FLOP/s of a chip (scaling book); MFU is not printed for other devices.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}
STEPS, SPEED, VALIDATION = "log.jsonl", "speed.jsonl", "validation.jsonl"

logger = logging.getLogger(__name__)


class TrainLog:
    """Reads the metrics of a step one step later, so that the host does not wait for the device.

    Process 0 writes; the others only collect (and write their own `clips-N.jsonl`).

    Args:
      out: run folder.
      stage: name of the stage.
      first_step: steps that are already done; lines of later steps are removed.
      log_every: steps between two log records.
      flops: training FLOPs (per token, per clip), for MFU.
      clips: whether the clips of each step are written.
    """

    def __init__(
        self,
        out: epath.Path,
        stage: str,
        *,
        first_step: int,
        log_every: int,
        flops: tuple[float, float],
        clips: bool = False,
    ) -> None:
        self.out, self.active = out, jax.process_index() == 0
        self.stage, self.every, self.flops = stage, log_every, flops
        self._clips_file = f"clips-{jax.process_index()}.jsonl" if clips else ""
        if self._clips_file:
            self._drop_after(out / self._clips_file, first_step)
        if self.active:
            for name in (STEPS, SPEED, VALIDATION):
                self._drop_after(out / name, first_step)
        self._local = "://" not in str(out)  # TensorBoard cannot write to object stores
        self._board = _open_board(out / "tensorboard") if self.active and self._local else None
        self._lines: dict[str, list[str]] = {}
        self._pending: tuple[int, dict[str, Any], list[str], float] | None = None
        self._losses: list[float] = []
        self._start, self._clip_count, self._tokens, self._positions = time.monotonic(), 0, 0, 0
        self._sets = Counter[str]()

    def step(self, number: int, metrics: dict[str, Any], names: list[str], *, lr: float) -> None:
        """Takes the metrics of a step and writes those of the step before.

        Args:
          number: number of the step.
          metrics: what the step returned, still on the device.
          names: "data set/clip" of each row of this process.
          lr: learning rate.
        """
        self.flush()
        self._pending = (number, metrics, names, lr)

    def flush(self) -> None:
        """Writes the step that is pending."""
        if self._pending is None:
            return
        number, metrics, names, lr = self._pending
        self._pending = None
        values = jax.device_get(metrics)
        loss = float(values["loss"])
        row = {"step": number, "loss": loss, "lr": lr, "grad_norm": float(values["grad_norm"])}
        row["word_loss"] = float(values["word_loss"])
        row["padding"] = 1 - int(values["text_tokens"]) / int(values["positions"])
        self._add(STEPS, row)
        if self._clips_file:
            self._add(self._clips_file, {"step": number, "clips": names})
        if self._local:
            self._write()
        self._sets.update(name.split("/", 1)[0] for name in names)
        # The losses are those of all processes, the names those of this one.
        first = jax.process_index() * len(names)
        losses = np.asarray(values["rows"])[first : first + len(names)]
        warning = self._suspicious(
            number, loss, finite=bool(values["finite"]), losses=losses, names=names
        )
        if np.isfinite(loss):
            self._losses.append(loss)
        self._clip_count += len(names) * jax.process_count()
        self._tokens += int(values["text_tokens"])
        self._positions += int(values["positions"])
        if number % self.every == 0:
            self._report(number, loss, lr)
        if warning and self.active:
            logger.warning("warning: %s", warning)

    def validation(self, number: int, score: float, samples: list[dict[str, Any]]) -> None:
        """Writes a score of the validation split, and the answers for some of its clips."""
        self._add(VALIDATION, {"step": number, "score": score, "samples": samples})
        if self._board:
            self._board.add_scalar(f"{self.stage}/validation", score, number)
        self._write()

    def close(self) -> None:
        """Writes what is left."""
        self.flush()
        self._write()
        if self._board:
            self._board.close()

    def _report(self, number: int, loss: float, lr: float) -> None:
        """Writes and logs the averages since the last report."""
        seconds = max(1e-9, time.monotonic() - self._start)
        recent = self._losses[-self.every :]
        values = {
            "loss": statistics.fmean(recent) if recent else loss,
            "lr": lr,
            "clips_per_s": self._clip_count / seconds,
            "tokens_per_s": self._tokens / seconds,
            "padding": 1 - self._tokens / self._positions,
        }
        peak = PEAK_FLOPS.get(jax.devices()[0].device_kind)
        if peak:
            work = self.flops[0] * self._tokens + self.flops[1] * self._clip_count
            values["mfu"] = work / seconds / (peak * jax.device_count())
        for key, value in values.items():
            if self._board:
                self._board.add_scalar(f"{self.stage}/{key}", value, number)
        shares = {name: n / sum(self._sets.values()) for name, n in sorted(self._sets.items())}
        self._add(SPEED, {"step": number, **values, "memory_bytes": memory(), "shares": shares})
        self._write()
        self._start, self._clip_count, self._tokens, self._positions = time.monotonic(), 0, 0, 0
        if self.active:
            mfu = f"  mfu {values['mfu']:.1%}" if peak else ""
            logger.info(
                f"{self.stage} {number:>6}  loss {values['loss']:.4f}  lr {lr:.2e}  "
                f"{values['clips_per_s']:.1f} clips/s  {values['tokens_per_s']:.0f} tokens/s  "
                f"padding {values['padding']:.0%}{mfu}"
            )

    def _suspicious(
        self, number: int, loss: float, *, finite: bool, losses: np.ndarray, names: list[str]
    ) -> str | None:
        """What a user should know about a step; None for ordinary steps."""
        usual = statistics.median(self._losses[-100:]) if len(self._losses) >= 20 else None
        if not finite:
            clips = [n for n, x in zip(names, losses, strict=False) if not np.isfinite(x)] or names
            return (
                f"{self.stage} step {number}: loss or gradient is not finite, update skipped; "
                f"clips {clips}"
            )
        if usual is not None and loss > 3 * usual and loss > usual + 1:
            worst = [names[i] for i in np.argsort(-losses)[:3]]
            return (
                f"{self.stage} step {number}: loss {loss:.3f}, usually {usual:.3f}; highest in "
                f"clips {worst}"
            )
        return None

    def _drop_after(self, path: epath.Path, step: int) -> None:
        # A killed run may have logged steps after its last checkpoint: they are run again.
        if not path.exists():
            return
        rows = [line for line in path.read_text().splitlines() if line.endswith("}")]
        parsed = [(json.loads(line), line) for line in rows]
        kept = [line for row, line in parsed if row["stage"] != self.stage or row["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept))

    def _add(self, name: str, row: dict[str, Any]) -> None:
        self._lines.setdefault(name, []).append(json.dumps({"stage": self.stage, **row}) + "\n")

    def _write(self) -> None:
        """Appends collected lines to their files.

        On a disk after every step; in an object store only with each log record.
        """
        for name, lines in self._lines.items():
            if self.active or name == self._clips_file:
                append(self.out / name, "".join(lines))
        self._lines.clear()


def _open_board(folder: epath.Path) -> Any:
    from tensorboardX import SummaryWriter  # slow to import: it imports torch where that exists

    return SummaryWriter(str(folder))


def memory() -> int:
    """Peak bytes in use on the first device of this process; on CPU, by the whole process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
