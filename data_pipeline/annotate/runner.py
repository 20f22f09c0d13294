"""Runs a recipe over many clips so that it can be interrupted at any time.

OUT/annotations.jsonl has one line per finished clip with the hash of everything that it depends on:
running the same command again does only what is missing or has changed. Replies are stored by
content (OUT/replies), money and tokens in a ledger (OUT/ledger.jsonl).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from data_pipeline.annotate.annotation import Annotation
from data_pipeline.annotate.describe import Annotator, Transcribe, Unfinished, media_hash
from data_pipeline.annotate.recipe import Recipe
from data_pipeline.annotate.unit_tracks import provider_named
from data_pipeline.io import try_lock, write_json, write_text
from data_pipeline.llm.budget import BudgetReached, Ledger, Spending
from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import BACKOFF, RETRIES, Endpoint, EndpointError
from data_pipeline.llm.transport import Halted
from data_pipeline.progress import Progress, no_progress
from data_pipeline.schema import ClipRecord

STATE, REPLIES, LEDGER, AGAIN = "annotations.jsonl", "replies", "ledger.jsonl", "again.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What to annotate; picklable, for machines that share the output folder.

    Attributes:
      recipe: agents, label source and filters.
      out: output folder.
      endpoints: by agent.
      concurrency: maximum number of requests in flight, per endpoint.
      retries: see ChatClient.
      backoff: see ChatClient.
      units: source of action units, see unit_tracks.provider_named.
      eight_units: see unit_tracks.read_units.
      max_money: budget of the folder, None for no limit.
      max_tokens: budget of the folder, None for no limit.
      ask_again: whether to ask again about clips that were left out because of unusable replies.
    """

    recipe: Recipe
    out: Path
    endpoints: Mapping[str, Endpoint]
    concurrency: int = 4
    retries: int = RETRIES
    backoff: float = BACKOFF
    units: str = "none"
    eight_units: tuple[int, ...] = ()
    max_money: float | None = None
    max_tokens: int | None = None
    ask_again: bool = False

    def ledger(self) -> Ledger:
        """Opens the ledger of the output folder."""
        return Ledger(self.out / LEDGER, max_money=self.max_money, max_tokens=self.max_tokens)

    @contextlib.contextmanager
    def annotator(
        self, *, transcribe: Transcribe | None = None, transcriber: str = ""
    ) -> Iterator[Annotator]:
        """Opens connections; agents of the same endpoint share one client.

        Args:
          transcribe: see Annotator.
          transcriber: see Annotator.

        Raises:
          ValueError: `units` is not a folder, or py-feat is not installed.
        """
        ledger = self.ledger()
        with contextlib.ExitStack() as stack:
            by_endpoint: dict[Endpoint, ChatClient] = {}
            for endpoint in self.endpoints.values():
                if endpoint not in by_endpoint:
                    client = ChatClient(
                        endpoint,
                        self.out / REPLIES,
                        retries=self.retries,
                        concurrency=self.concurrency,
                        backoff=self.backoff,
                        ledger=ledger,
                        retry_unusable=self.ask_again,
                    )
                    by_endpoint[endpoint] = stack.enter_context(client)
            yield Annotator(
                recipe=self.recipe,
                clients={name: by_endpoint[e] for name, e in self.endpoints.items()},
                provider=provider_named(self.units, eight_units=self.eight_units),
                transcribe=transcribe,
                transcriber=transcriber,
                sent_back=sent_back(self.out),
            )


# Annotates clips, given with the hashes of their files; yields annotations in any order, or
# (clip, why it is unfinished).
Work = Callable[[Job, Sequence[tuple[ClipRecord, str]]], Iterator[Annotation | tuple[str, str]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run.

    Attributes:
      annotations: in the order of the clips.
      unfinished: clip -> why it has no annotation.
      stopped: why the run stopped early, "" if it did not.
      spending: of all requests of the output folder.
      faults: how often each type of fault occurred.
      requests_sent: by this run.
      budget_reached: whether the budget stopped the run.
    """

    annotations: tuple[Annotation, ...]
    unfinished: dict[str, str]
    stopped: str
    spending: Spending
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    requests_sent: int = 0
    budget_reached: bool = False


def run_job(
    job: Job,
    records: Sequence[ClipRecord],
    *,
    progress: Progress = no_progress,
    transcribe: Transcribe | None = None,
    transcriber: str = "",
    work: Work | None = None,
) -> RunResult:
    """Annotates the clips that have no current annotation.

    Args:
      job: what to do.
      records: the clips.
      progress: called with the number of annotated clips.
      transcribe: see Annotator.
      transcriber: see Annotator.
      work: annotates the clips instead of threads of this process, see cluster.py.

    Raises:
      ValueError: two clips have the same id or the same file of action units, a file cannot be
        read, or another run uses the folder.
    """
    check_ids(records)
    lock = try_lock(job.out / ".lock", f"{job.out}: another run is at work in this folder")
    with lock, job.annotator(transcribe=transcribe, transcriber=transcriber) as annotator:
        path = job.out / STATE
        known = read_state(path, repair=True)
        check_units(annotator, records)
        media = {r.id: _hash(r) for r in records}
        keys = {r.id: annotator.key(r, media[r.id]) for r in records}
        current = {clip: a for clip, a in known.items() if keys.get(clip) == a.key}
        done = {c: a for c, a in current.items() if not (job.ask_again and a.left_out)}
        missing = [(r, media[r.id]) for r in records if r.id not in done]
        unfinished, stopped, budget_reached = dict[str, str](), "", False
        progress("annotate", len(done), len(records))
        try:
            for result in (work or _threads(annotator))(job, missing):
                _keep(result, path, done, unfinished)
                progress("annotate", len(done), len(records))
        except BudgetReached as reached:
            stopped, budget_reached = f"the budget is reached: {reached}", True
        except EndpointError as error:
            stopped = str(error)
        for r in records:
            if r.id not in done:
                unfinished.setdefault(r.id, stopped or "not reached")
        annotations = tuple(done[r.id] for r in records if r.id in done)
        others = [a for clip, a in known.items() if clip not in keys]  # of other lists of clips
        _write_state(path, [*annotations, *others])
        clients = set(annotator.clients.values())
        return RunResult(
            annotations=annotations,
            unfinished=unfinished,
            stopped=stopped,
            spending=job.ledger().spending(),
            faults=dict(sum((c.faults for c in clients), Counter())),
            requests_sent=sum(c.requests_sent for c in clients),
            budget_reached=budget_reached,
        )


def _keep(
    result: Annotation | tuple[str, str],
    path: Path,
    done: dict[str, Annotation],
    unfinished: dict[str, str],
) -> None:
    """Appends an annotation to the file, or notes why the clip has none."""
    if isinstance(result, Annotation):
        with path.open("a", encoding="utf-8") as file:
            file.write(result.to_json() + "\n")
        done[result.clip] = result
    else:
        unfinished[result[0]] = result[1]


def _threads(annotator: Annotator) -> Work:
    """Annotates clips in threads, a few more than requests may be in flight.

    Few clips are queued: each holds its decoded frames in memory.
    """

    def work(
        job: Job, missing: Sequence[tuple[ClipRecord, str]]
    ) -> Iterator[Annotation | tuple[str, str]]:
        size = max(2, job.concurrency * max(1, len(set(job.endpoints.values()))))
        with concurrent.futures.ThreadPoolExecutor(size) as pool:
            in_flight: dict[concurrent.futures.Future[Annotation], str] = {}
            queue = iter(missing)
            try:
                while True:
                    while len(in_flight) < 2 * size and (clip := next(queue, None)):
                        record, media = clip
                        future = pool.submit(annotator.annotate, record, media=media)
                        in_flight[future] = record.id
                    if not in_flight:
                        return
                    ended, _ = concurrent.futures.wait(
                        in_flight, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    for future in ended:
                        name = in_flight.pop(future)
                        try:
                            yield future.result()
                        except Unfinished as error:
                            yield name, str(error)
                        except Halted:  # another clip's fault has stopped the run
                            continue
            except BaseException:
                for client in set(annotator.clients.values()):
                    client.halt()
                raise
            finally:
                for future in in_flight:
                    future.cancel()

    return work


def sent_back(out: Path) -> dict[str, str]:
    """Returns the remarks on clips that were sent back by `emojax verify --send-back`, by clip."""
    path = out / AGAIN
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {clip: f"{e['remark']} (time {e['time']})".strip() for clip, e in entries.items()}


def send_back(out: Path, remarks: Mapping[str, str], digests: Mapping[str, str]) -> int:
    """Makes the next run ask again about clips.

    Args:
      out: output folder.
      remarks: of annotators, by clip.
      digests: of the annotations, by clip; each annotation is sent back at most once.

    Returns:
      The number of clips that were not sent back before.
    """
    path = out / AGAIN
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    count = 0
    for clip, remark in remarks.items():
        before = entries.get(clip, {"time": 0, "of": ""})
        if before["of"] != digests[clip]:
            entries[clip] = {"remark": remark, "time": before["time"] + 1, "of": digests[clip]}
            count += 1
    write_json(path, entries, indent=1)
    return count


def check_ids(records: Sequence[ClipRecord]) -> None:
    """Checks that every clip has its own id.

    Raises:
      ValueError: two clips have the same id.
    """
    known: set[str] = set()
    for record in records:
        if record.id in known:
            raise ValueError(
                f"two clips have the id '{record.id}' ({record.path} is one): rename a file, or "
                "name clips in a manifest"
            )
        known.add(record.id)


def check_units(annotator: Annotator, records: Sequence[ClipRecord]) -> None:
    """Checks that every media file has its own file of action units.

    Raises:
      ValueError: two media files have the same file of action units.
    """
    file_of = getattr(annotator.provider, "file", None)
    if file_of is None:
        return
    used: dict[Path, str] = {}
    for record in records:
        file = file_of(record.path)
        if file is not None and used.setdefault(file, record.path) != record.path:
            raise ValueError(
                f"{file} would be the action units of {used[file]} and of {record.path}: put the "
                "files into subfolders named like those of the clips"
            )


def _hash(record: ClipRecord) -> str:
    try:
        return media_hash(Path(record.path))
    except OSError as error:
        raise ValueError(f"{record.path}: {error.strerror}") from error


def read_state(path: Path, *, repair: bool = False) -> dict[str, Annotation]:
    """Reads the finished clips of earlier runs.

    Args:
      path: OUT/annotations.jsonl.
      repair: whether to remove an incomplete last line, so that lines can be appended.

    Returns:
      Annotations by clip; lines of other versions are ignored.
    """
    if not path.exists():
        return {}
    out: dict[str, Annotation] = {}
    data = path.read_bytes()
    complete = data.rfind(b"\n") + 1
    if repair and complete < len(data):
        os.truncate(path, complete)
    for line in data[:complete].split(b"\n"):
        if line:
            with contextlib.suppress(ValueError):
                annotation = Annotation.from_json(line)
                out[annotation.clip] = annotation
    return out


def _write_state(path: Path, annotations: Sequence[Annotation]) -> None:
    """Replaces the file by one line per clip, in the order of the clips."""
    write_text(path, "".join(a.to_json() + "\n" for a in annotations), durable=True)
