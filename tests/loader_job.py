"""A loader that logs every completed step: `loader_job.py BUILT LOG STATE STEPS WORKERS`.

A step is complete when its state is on disk, like a training step when its checkpoint is. Lines of
later steps are removed from the log at the next start.
"""

import json
import os
import sys
from pathlib import Path

from absl import flags

from data_pipeline.builders.shards import open_built
from data_pipeline.loader.batches import BuiltSource, train_iterator
from data_pipeline.loader.samples import NAMES, RowConfig
from data_pipeline.loader.tasks import StageTasks
from data_pipeline.loader.tokens import SmallTokenizer
from data_pipeline.media.clip import Sampling
from data_pipeline.media.views import ViewConfig

VIEWS = ViewConfig(image_size=32, frame_size=16, num_frames=4, mels=80, seconds=1.0)


def main(built: str, log: str, state: str, steps: str, workers: str) -> None:
    flags.FLAGS.mark_as_parsed()
    one = open_built(Path(built))["embedded"]
    tokenizer = SmallTokenizer.train(["a b c"], 300)
    rows = RowConfig(
        views=VIEWS,
        placeholders=(("<VideoHere>", 4),),
        buckets=((600, 300),),
        max_answer=300,
        max_subtitle=200,
    )
    source = BuiltSource(one, "train", VIEWS, Sampling(image="middle", num_frames=4))
    stage = StageTasks(style="perception", tasks=("emotion", "audio", "image"))
    batches = train_iterator(
        {"embedded": (source, 1.0)},
        stage,
        tokenizer,
        config=rows,
        batch=2,
        seed=3,
        workers=int(workers),
    )
    done = []
    if Path(state).exists():
        saved = json.loads(Path(state).read_text())
        batches.set_state(saved)
        done = Path(log).read_text().splitlines()[: saved["next_index"]]
    Path(log).write_text("".join(line + "\n" for line in done))
    with open(log, "a") as file:
        for _ in range(len(done), int(steps)):
            batch = next(batches)
            file.write(json.dumps([batch[NAMES], batch["ids"].sum(axis=1).tolist()]) + "\n")
            file.flush()
            os.fsync(file.fileno())
            part = Path(state + ".part")
            part.write_text(json.dumps(batches.get_state()))
            os.replace(part, state)


if __name__ == "__main__":
    main(*sys.argv[1:])
