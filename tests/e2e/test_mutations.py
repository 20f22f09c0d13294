"""300 damaged files: no crash, at most 10 s and a one-line error each; the rest is predicted."""

import itertools
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from data_pipeline.embedded.generate import make_corpus
from data_pipeline.embedded.truth import EMOTIONS, CorpusConfig
from data_pipeline.loader.tokens import SmallTokenizer
from emojax.bundle.model_folder import Bundle, load_bundle, save_bundle
from emojax.config import load_config, resolve
from emojax.infer.predict import predict
from emojax.model.variables import init_flat, merge
from emojax.sharding import make_mesh

COUNT = 300


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    settings = resolve(load_config("tiny:test"))
    mesh = make_mesh(shape=(1, 1, 1), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        variables = merge(init_flat(settings.model, 0, mesh), {})
    tokenizer = SmallTokenizer.train(["the person in video says which one of is shown"], 500)
    folder = tmp_path_factory.mktemp("model")
    save_bundle(folder, settings, tokenizer, variables=variables, labels=EMOTIONS, reasons=True)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> list[Path]:
    folder = make_corpus(
        config=CorpusConfig(train=6, val=1, test=3), folder=tmp_path_factory.mktemp("c") / "c"
    )
    return sorted((folder / "clips").glob("*.mp4"))


def mutate(kind: int, data: bytes, path: Path, rng: np.random.Generator) -> Path:
    """Cuts, flips bytes anywhere or in the header, changes the suffix, empties, writes text."""
    if kind == 0:
        path.write_bytes(data[: int(rng.integers(1, len(data)))])
    elif kind in (1, 2):
        bytes_ = bytearray(data)
        area = len(bytes_) if kind == 1 else 400
        for at in rng.integers(0, area, int(rng.integers(1, 200))):
            bytes_[at if kind == 1 else -1 - at] = int(rng.integers(0, 256))
        path.write_bytes(bytes(bytes_))
    elif kind == 3:
        path = path.with_suffix(str(rng.choice([".wav", ".avi", ".mkv", ".mp3", ".mov"])))
        path.write_bytes(data)
    elif kind == 4:
        path.write_bytes(b"")
    else:
        path.write_text("path,label\nnothing,to see\n" * int(rng.integers(1, 300)))
    return path


def damaged(originals: list[Path], folder: Path, count: int, *, seed: int) -> list[str]:
    """Damaged files, of the six kinds in turn."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    return [
        str(mutate(i % 6, original.read_bytes(), folder / f"{i:03d}.mp4", rng))
        for i, original in zip(range(count), itertools.cycle(originals))
    ]


def test_300_damaged_files(bundle, originals, tmp_path):
    paths = damaged(originals, tmp_path / "timed", COUNT, seed=0)
    # Two others of each kind first: what is timed below compiles nothing.
    list(predict(bundle, damaged(originals, tmp_path / "first", 12, seed=1)))
    answers = []
    begin = time.monotonic()
    for answer in predict(bundle, paths):
        now = time.monotonic()
        assert now - begin < 10, answer.path
        begin = now
        answers.append(answer)
    assert [a.path for a in answers] == paths
    for a in answers:
        if a.error is None:
            assert sum(a.probabilities.values()) == pytest.approx(1)
            assert a.label in (("cannot tell",) if a.nobody else EMOTIONS)
        else:
            assert a.label is None and a.error and "\n" not in a.error and len(a.error) < 300
    rejected = [a.error is not None for a in answers]
    assert all(rejected[4::6]) and all(rejected[5::6]), "empty files and text are rejected"
    assert not any(rejected[3::6]), "the content matters, not the suffix"
    assert 100 < sum(rejected) < 250


def test_real_clips_are_predicted(bundle, real_data):
    paths = sorted(str(p) for p in (real_data / "clips").rglob("*") if p.suffix in (".mp4", ".mov"))
    answers = list(predict(bundle, paths))
    assert len(answers) == 23 and all(a.error is None for a in answers)
    assert all(
        any("hears the first 1 s" in n for n in a.notes) for a in answers if "audio" in a.modalities
    )
    silent = {Path(a.path).name for a in answers if "audio" not in a.modalities}
    assert silent == {"WolfgangLanger_Pexels.mp4", "test.mp4", "woman2.mp4", "video_tracked.mp4"}


def test_sound_without_picture(bundle, originals, tmp_path):
    import av

    shutil.copy(originals[0], tmp_path / "a.mp4")
    with av.open(str(originals[0])) as source, av.open(str(tmp_path / "only.m4a"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    [answer] = predict(bundle, [str(tmp_path / "only.m4a")], subtitle="well then")
    assert (
        answer.error is None
        and answer.modalities == ("audio", "text")
        and "there is no picture" in answer.notes
    )
