"""Training logs: console lines, `log.jsonl` (a row a step), `speed.jsonl`, `validation.jsonl`, TensorBoard; reports of bad steps."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections import Counter
from typing import Any

import jax
import numpy as np
from etils import epath
from tensorboardX import SummaryWriter

from emojax.train.run_folder import append

# Peak bf16 FLOP/s of a chip (scaling-book table); absent means that MFU is not printed.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}
STEPS, SPEED, VALIDATION = "log.jsonl", "speed.jsonl", "validation.jsonl"


class TrainLog:
    """Collects device metrics one step late, so that the host never waits for the step it has just started.

    Process 0 writes; the others collect. docs/logs.md explains every number.
    """

    def __init__(
        self,
        out: epath.Path,
        stage: str,
        first_step: int,
        log_every: int,
        flops: tuple[float, float],
        *,
        clips: bool = False,
    ):
        self.out, self.active = out, jax.process_index() == 0
        self.stage, self.every, self.flops = stage, log_every, flops  # (a token, a clip)
        self.clips = f"clips-{jax.process_index()}.jsonl" if clips else ""
        if self.clips:
            self._drop_after(out / self.clips, first_step)
        if self.active:
            for name in (STEPS, SPEED, VALIDATION):
                self._drop_after(out / name, first_step)
        local = "://" not in str(out)  # TensorBoard files are local alone
        self._board = SummaryWriter(str(out / "tensorboard")) if self.active and local else None
        self._lines: dict[str, list[str]] = {}
        self._pending: tuple[int, dict[str, Any], list[str], float] | None = None
        self._losses: list[float] = []
        self._since = (time.monotonic(), 0, 0, 0)
        self._sets = Counter[str]()
        self.bad: list[str] = []

    def _drop_after(self, path: epath.Path, step: int) -> None:
        # A killed run may have logged steps past its last checkpoint: they are run and logged again.
        if not path.exists():
            return
        rows = [line for line in path.read_text().splitlines() if line.endswith("}")]
        parsed = [(json.loads(line), line) for line in rows]
        kept = [line for row, line in parsed if row["stage"] != self.stage or row["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept))

    def _write(self, name: str, row: dict[str, Any]) -> None:
        self._lines.setdefault(name, []).append(json.dumps({"stage": self.stage, **row}) + "\n")

    def _put(self) -> None:
        """Lines to their files: each at once on a disk, together with the console line in an object store."""
        for name, lines in self._lines.items():
            if self.active or name == self.clips:
                append(self.out / name, "".join(lines))
        self._lines.clear()

    def step(self, number: int, metrics: dict[str, Any], names: list[str], lr: float) -> str | None:
        """Takes the metrics of step `number`, writes those of the step before; returns a console line when one is due."""
        line = self.flush()
        self._pending = (number, metrics, names, lr)
        return line

    def flush(self) -> str | None:
        """Writes what is pending; returns a console line when one is due."""
        if self._pending is None:
            return None
        number, metrics, names, lr = self._pending
        self._pending = None
        got = jax.device_get(metrics)
        loss = float(got["loss"])
        row = {"step": number, "loss": loss, "lr": lr, "grad_norm": float(got["grad_norm"])}
        row["word_loss"] = float(got["word_loss"])
        row["padding"] = 1 - int(got["text_tokens"]) / int(got["positions"])
        self._write(STEPS, row)
        if self.clips:
            self._write(self.clips, {"step": number, "clips": names})
        if "://" not in str(self.out):
            self._put()
        self._sets.update(name.split("/", 1)[0] for name in names)
        own = jax.process_index() * len(names)  # rows are of all processes, names of this one
        self._report(
            number,
            loss,
            bool(got["finite"]),
            np.asarray(got["rows"])[own : own + len(names)],
            names,
        )
        start, clips, tokens, positions = self._since
        clips, tokens = clips + len(names) * jax.process_count(), tokens + int(got["text_tokens"])
        positions += int(got["positions"])
        self._since = (start, clips, tokens, positions)
        if number % self.every:
            return None
        seconds = max(1e-9, time.monotonic() - start)
        recent = self._losses[-self.every :]
        values = {
            "loss": statistics.fmean(recent) if recent else loss,
            "lr": lr,
            "clips_per_s": clips / seconds,
            "tokens_per_s": tokens / seconds,
            "padding": 1 - tokens / positions,
        }
        peak = PEAK_FLOPS.get(jax.devices()[0].device_kind)
        if peak:
            work = self.flops[0] * tokens + self.flops[1] * clips
            values["mfu"] = work / seconds / (peak * jax.device_count())
        for key, value in values.items():
            if self._board:
                self._board.add_scalar(f"{self.stage}/{key}", value, number)
        shares = {name: n / sum(self._sets.values()) for name, n in sorted(self._sets.items())}
        self._write(SPEED, {"step": number, **values, "memory_bytes": memory(), "shares": shares})
        self._put()
        self._since = (time.monotonic(), 0, 0, 0)
        mfu = f"  mfu {values['mfu']:.1%}" if peak else ""
        return (
            f"{self.stage} {number:>6}  loss {values['loss']:.4f}  lr {lr:.2e}  "
            f"{values['clips_per_s']:.1f} clips/s  {values['tokens_per_s']:.0f} tokens/s  padding {values['padding']:.0%}{mfu}"
        )

    def _report(
        self, number: int, loss: float, finite: bool, rows: np.ndarray, names: list[str]
    ) -> None:
        usual = statistics.median(self._losses[-100:]) if len(self._losses) >= 20 else None
        if not finite:
            clips = [n for n, r in zip(names, rows, strict=False) if not np.isfinite(r)] or names
            self.bad.append(
                f"{self.stage} step {number}: loss or gradient is not finite, update left out; clips {clips}"
            )
        elif usual is not None and loss > 3 * usual and loss > usual + 1:
            worst = [names[i] for i in np.argsort(-rows)[:3]]
            self.bad.append(
                f"{self.stage} step {number}: loss {loss:.3f}, usual {usual:.3f}; highest in clips {worst}"
            )
        if np.isfinite(loss):
            self._losses.append(loss)

    def validation(self, number: int, score: float, samples: list[dict[str, Any]]) -> None:
        """Notes a score of the validation split, and what was answered for some of its clips."""
        self._write(VALIDATION, {"step": number, "score": score, "samples": samples})
        if self._board:
            self._board.add_scalar(f"{self.stage}/validation", score, number)
        self._put()

    def close(self) -> None:
        """Writes the rest."""
        self.flush()
        self._put()
        if self._board:
            self._board.close()


def memory() -> int:
    """Peak bytes in use on the first device of this process; on CPU, of the process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
