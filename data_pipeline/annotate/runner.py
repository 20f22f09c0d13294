"""The engine: every clip once, whatever happens in between.

OUT/annotations.jsonl holds one line a finished clip, with the hash of everything that it depends on: a run of the same command does
what is missing, and does again what has changed. Replies are kept by content (OUT/replies), money and tokens in a ledger.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from data_pipeline.annotate.describe import (
    Annotation,
    Annotator,
    Transcribe,
    Unfinished,
    media_hash,
)
from data_pipeline.annotate.peaks import provider_named
from data_pipeline.annotate.recipe import Recipe
from data_pipeline.io import lock_folder
from data_pipeline.llm.budget import BudgetReached, Ledger, Spending
from data_pipeline.llm.client import ChatClient
from data_pipeline.llm.endpoint import Endpoint, EndpointError
from data_pipeline.llm.transport import Halted
from data_pipeline.schema import ClipRecord

STATE, REPLIES, LEDGER, AGAIN = "annotations.jsonl", "replies", "ledger.jsonl", "again.json"
Tick = Callable[[int, int, Spending], None]  # (clips done, all, spent so far)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done; may be sent to another machine that sees the same folder.

    Attributes:
      recipe, out: how, and where to.
      endpoints: by agent.  concurrency: requests to each endpoint at once.  retries, backoff: see Asker.
      units, eight: where action units are from, see peaks.provider_named.
      max_money, max_tokens: budget of the folder, None for none.
      ask_again: what was left out for what agents answered.
    """

    recipe: Recipe
    out: Path
    endpoints: Mapping[str, Endpoint]
    concurrency: int = 4
    retries: int | None = None
    backoff: float = 1.0
    units: str = "none"
    eight: tuple[int, ...] = ()
    max_money: float | None = None
    max_tokens: int | None = None
    ask_again: bool = False

    def ledger(self) -> Ledger:
        """Of the output folder."""
        return Ledger(self.out / LEDGER, max_money=self.max_money, max_tokens=self.max_tokens)

    @contextlib.contextmanager
    def annotator(
        self, transcribe: Transcribe | None = None, transcriber: str = ""
    ) -> Iterator[Annotator]:
        """With open connections; agents of the same endpoint share one."""
        ledger = self.ledger()
        with contextlib.ExitStack() as stack:
            made: dict[Endpoint, ChatClient] = {}
            for endpoint in self.endpoints.values():
                if endpoint not in made:
                    client = ChatClient(
                        endpoint, self.out / REPLIES, retries=self.retries, concurrency=self.concurrency, backoff=self.backoff,
                        ledger=ledger, retry_unusable=self.ask_again,
                    )  # fmt: skip
                    made[endpoint] = stack.enter_context(client)
            clients = {name: made[endpoint] for name, endpoint in self.endpoints.items()}
            provider = provider_named(self.units, eight=self.eight)
            yield Annotator(
                recipe=self.recipe,
                clients=clients,
                provider=provider,
                transcribe=transcribe,
                transcriber=transcriber,
                again=sent_back(self.out),
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """found: annotations in the order of the clips.  unfinished: {clip: why}.  stopped: why nothing more was asked, "" if all were.
    faults: {kind: how often}.  asked: requests of this run.  budget: whether the budget stopped it.
    """

    found: tuple[Annotation, ...]
    unfinished: dict[str, str]
    stopped: str
    spent: Spending
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    asked: int = 0
    budget: bool = False


def run(
    job: Job,
    records: Sequence[ClipRecord],
    *,
    tick: Tick | None = None,
    transcribe: Transcribe | None = None,
    transcriber: str = "",
    work: Callable[[Job, Sequence[tuple[ClipRecord, str]]], Iterator[Annotation | tuple[str, str]]]
    | None = None,
) -> Done:
    """Annotates what is not annotated yet.

    Args:
      work: what does the clips, in the place of threads here (cluster.py): yields annotations, or (clip, why it is unfinished).

    Raises:
      ValueError: two clips have one id or one file of action units, or another run has the folder.
    """
    check_ids(records)
    job.out.mkdir(parents=True, exist_ok=True)
    with (
        lock_folder(job.out / ".lock", f"{job.out}: another run is at work in this folder"),
        job.annotator(transcribe, transcriber) as annotator,
    ):
        path = job.out / STATE
        kept = read_state(path, mend=True)
        check_units(annotator, records)
        media = {r.id: _hash(r) for r in records}
        keys = {r.id: annotator.key(r, media[r.id]) for r in records}
        done = {
            c: a
            for c, a in kept.items()
            if keys.get(c) == a.key and not (job.ask_again and a.left_out)
        }
        missing = [(r, media[r.id]) for r in records if r.id not in done]
        ledger = job.ledger()
        unfinished: dict[str, str] = {}
        stopped, budget = "", False
        if tick:
            tick(len(done), len(records), ledger.spending())
        with path.open("a", encoding="utf-8") as file:
            stream = (work or _threads(annotator))(job, missing)
            try:
                for found in stream:
                    if isinstance(found, Annotation):
                        file.write(found.to_json() + "\n")
                        file.flush()
                        done[found.clip] = found
                    else:
                        unfinished[found[0]] = found[1]
                    if tick:
                        tick(len(done), len(records), ledger.spending())
            except BudgetReached as reached:
                stopped, budget = f"the budget is reached: {reached}", True
            except EndpointError as error:
                stopped = str(error)
        clients = set(annotator.clients.values())
        faults: dict[str, int] = {}
        for client in clients:
            for kind, n in client.faults.items():
                faults[kind] = faults.get(kind, 0) + n
        for record in records:
            if record.id not in done and record.id not in unfinished:
                unfinished[record.id] = stopped or "not reached"
        here = {r.id for r in records}
        others = [a for c, a in kept.items() if c not in here]  # of another choice of clips
        _compact(path, [*(done[r.id] for r in records if r.id in done), *others])
        found_all = tuple(done[r.id] for r in records if r.id in done)
        return Done(
            found=found_all,
            unfinished=unfinished,
            stopped=stopped,
            spent=ledger.spending(),
            faults=faults,
            asked=sum(c.requests_sent for c in clients),
            budget=budget,
        )


def _threads(
    annotator: Annotator,
) -> Callable[[Job, Sequence[tuple[ClipRecord, str]]], Iterator[Annotation | tuple[str, str]]]:
    """Clips side by side, few more than requests may be under way: what is decoded and waits takes memory."""

    def work(
        job: Job, missing: Sequence[tuple[ClipRecord, str]]
    ) -> Iterator[Annotation | tuple[str, str]]:
        size = max(2, job.concurrency * max(1, len(set(job.endpoints.values()))))
        with concurrent.futures.ThreadPoolExecutor(size) as pool:
            under_way: dict[concurrent.futures.Future[Annotation], str] = {}
            rest = iter(missing)
            try:
                while True:
                    while len(under_way) < 2 * size and (following := next(rest, None)):
                        under_way[pool.submit(annotator.annotate, *following)] = following[0].id
                    if not under_way:
                        return
                    ended, _ = concurrent.futures.wait(
                        under_way, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    for future in ended:
                        clip = under_way.pop(future)
                        try:
                            yield future.result()
                        except Unfinished as error:
                            yield clip, str(error)
                        except Halted:  # another clip's fault has stopped the run
                            continue
            except (
                BaseException
            ):  # what has not begun shall not begin, and what has asks nothing more
                for client in set(annotator.clients.values()):
                    client.halt()
                raise
            finally:
                for future in under_way:
                    future.cancel()

    return work


def sent_back(out: Path) -> dict[str, str]:
    """{clip: remark} of clips that people sent back: `emojax verify --send-back` writes them."""
    path = out / AGAIN
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        clip: f"{entry['remark']} (time {entry['time']})".strip() for clip, entry in found.items()
    }


def send_back(out: Path, fresh: Mapping[str, str], of: Mapping[str, str]) -> int:
    """Has clips asked again by the next run; returns how many are new.

    Args:
      fresh: {clip: remark}.  of: {clip: digest of the annotation that is sent back}; one goes back once.
    """
    path = out / AGAIN
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    count = 0
    for clip, remark in fresh.items():
        before = known.get(clip, {"time": 0, "of": ""})
        if before["of"] != of[clip]:
            known[clip] = {"remark": remark, "time": before["time"] + 1, "of": of[clip]}
            count += 1
    path.write_text(json.dumps(known, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return count


def check_ids(records: Sequence[ClipRecord]) -> None:
    """Raises ValueError where two clips have one id."""
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise ValueError(
                f"two clips have the id '{record.id}' ({record.path} is one): rename a file, or name clips in a manifest"
            )
        seen.add(record.id)


def check_units(annotator: Annotator, records: Sequence[ClipRecord]) -> None:
    """Raises ValueError where two media files would have the same file of action units."""
    file = getattr(annotator.provider, "file", None)
    if file is None:
        return
    used: dict[Path, str] = {}
    for record in records:
        found = file(record.path)
        if found is not None and used.setdefault(found, record.path) != record.path:
            raise ValueError(
                f"{found} would be the action units of {used[found]} and of {record.path}: put them in folders as the clips"
            )


def _hash(record: ClipRecord) -> str:
    try:
        return media_hash(Path(record.path))
    except OSError as error:
        raise ValueError(f"{record.path}: {error.strerror}") from error


def read_state(path: Path, *, mend: bool = False) -> dict[str, Annotation]:
    """Finished clips of earlier runs, by id. `mend`: a line that was cut off is cut away, so that the next one begins anew."""
    if not path.exists():
        return {}
    out: dict[str, Annotation] = {}
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if mend and whole < len(data):
        os.truncate(path, whole)
    for line in data[:whole].split(b"\n"):
        if line:
            with contextlib.suppress(ValueError):  # of another version: it is made again
                found = Annotation.from_json(line)
                out[found.clip] = found
    return out


def _compact(path: Path, found: Sequence[Annotation]) -> None:
    """One line a clip, in the order of the clips; whole or not at all."""
    half = path.with_suffix(".new")
    with half.open("w", encoding="utf-8") as file:
        for annotation in found:
            file.write(annotation.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
