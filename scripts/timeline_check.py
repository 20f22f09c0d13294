"""Measures how well recordings are cut into segments, on real clips joined at known times.

    python scripts/timeline_check.py OUT.mp4 [--minutes 10] [--data ../shared/data/java_sed]

Prints the share of joins with a boundary within half a second, the share of boundaries that are
joins, the speed and the peak memory.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from data_pipeline.io import write_json
from data_pipeline.media.clip import Sampling
from data_pipeline.media.segments import SegmentConfig, read_segments

SIZE, RATE, SOUND = (360, 270), 30, 44_100


def assemble(out: Path, data: Path, minutes: float, seed: int = 0) -> list[dict[str, object]]:
    """Joins clips of data/manifest.csv in random order into one H.264 file.

    Returns:
      [{start, end, label, actor, file}], times in seconds.
    """
    rows = list(csv.DictReader((data / "manifest.csv").open()))
    rows = [r for r in rows if r["file"].endswith(".mp4")]
    order = np.random.default_rng(seed).permutation(len(rows))
    parts: list[dict[str, object]] = []
    with av.open(str(out), "w") as container:
        video = container.add_stream(
            "libx264", rate=RATE, options={"preset": "veryfast", "crf": "28"}
        )
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND, layout="mono")
        frames = samples = 0
        number = 0
        while frames / RATE < minutes * 60:
            row = rows[order[number % len(rows)]]
            number += 1
            begin = frames / RATE
            with av.open(str(data / row["file"])) as source:
                for frame in source.decode(video=0):
                    scaled = frame.reformat(*SIZE, format="yuv420p")
                    scaled.pts, scaled.time_base, scaled.pict_type = frames, Fraction(1, RATE), 0
                    frames += 1
                    container.mux(video.encode(scaled))
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND)
            with av.open(str(data / row["file"])) as source:
                pieces = [
                    o.to_ndarray() for f in source.decode(audio=0) for o in resampler.resample(f)
                ]
            wave = np.concatenate(pieces, axis=1)
            # Audio and video of each clip stay synchronous.
            due = round(frames / RATE * SOUND) - samples
            wave = np.pad(wave[:, :due], ((0, 0), (0, max(0, due - wave.shape[1]))))
            for start in range(0, due, 4410):
                piece = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 4410]), "fltp", "mono"
                )
                piece.rate, piece.pts, piece.time_base = SOUND, samples + start, Fraction(1, SOUND)
                container.mux(audio.encode(piece))
            samples += due
            parts.append(
                {
                    "start": begin,
                    "end": frames / RATE,
                    "label": row["emotion"],
                    "actor": row["actor"],
                    "file": row["file"],
                }
            )
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return parts


def matched(times: np.ndarray, others: np.ndarray, *, within: float = 0.5) -> float:
    """Share of `times` with a member of `others` within so many seconds."""
    return float((np.abs(times[:, None] - others[None]).min(axis=1) <= within).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/java_sed"))
    args = parser.parse_args()
    truth = args.out.with_suffix(".joins.json")
    if not truth.exists():
        write_json(truth, assemble(args.out, args.data, args.minutes))
    parts = json.loads(truth.read_text())
    joins = np.array([p["start"] for p in parts[1:]])
    begin = time.monotonic()
    ends, kinds = [], []
    for segment in read_segments(str(args.out), SegmentConfig(), Sampling()):
        ends.append(segment.end)
        kinds.append(segment.ends_at)
    seconds = time.monotonic() - begin
    boundaries = np.array(ends[:-1])
    print(
        json.dumps(
            {
                "minutes": round(parts[-1]["end"] / 60, 2),
                "joins": len(joins),
                "segments": len(ends),
                "joins_found": round(matched(joins, boundaries), 4),
                "boundaries_that_are_joins": round(matched(boundaries, joins), 4),
                "ends": {k: kinds.count(k) for k in sorted(set(kinds))},
                "seconds": round(seconds, 1),
                "times_real_time": round(parts[-1]["end"] / seconds, 1),
                "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )
    )


if __name__ == "__main__":
    main()
