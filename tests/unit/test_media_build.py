"""Built data sets: proxies are close to their clips, faults are counted, builds continue."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from dataset_fixtures import FIXTURES
from dataset_layouts import write_fixture
from PIL import Image

from data_pipeline.builders import shards
from data_pipeline.builders.shards import build_set, open_built, pack_fields, unpack_fields
from data_pipeline.datasets.registry import choose_records, read_root
from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.io import try_lock
from data_pipeline.loader.batches import BuiltSource
from data_pipeline.loader.released_stages import IMAGE_SETS
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.storage import StoreConfig, pack_media, read_flac, stored_views, write_flac
from data_pipeline.media.views import ViewConfig, make_views
from data_pipeline.schema import ClipRecord
from emojax.cli.main import main

VIEWS = ViewConfig(image_size=448, frame_size=224, num_frames=16, mels=80, seconds=2.0)
LOOK = Sampling(image="middle", temporal="uniform")
CONFIG = StoreConfig(image_choice="middle", temporal="uniform")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m")
    return folder, load_corpus(
        make_corpus(config=CorpusConfig(train=35, val=5, test=5), folder=folder / "corpus")
    )


def views_of(record: ClipRecord):
    clip = read_clip(
        record.path, sampling=Sampling(image="middle", temporal="uniform"), clip_id=record.id
    )
    return make_views(clip, VIEWS)


def test_proxies_are_their_clips_up_to_jpeg(corpus):
    for record in corpus[1][:6]:
        fields, _ = pack_media(record, CONFIG)
        got, true = stored_views(record, fields, CONFIG, VIEWS, LOOK), views_of(record)
        assert (got.has_video, got.has_audio, got.audio_frames) == (
            true.has_video,
            true.has_audio,
            true.audio_frames,
        )
        for one, other in ((got.image, true.image), (got.frames, true.frames)):
            error = np.abs(one.astype(int) - other)
            assert error.mean() < 2.5 and np.percentile(error, 99) < 14
        sound_error = np.abs(got.sound - true.sound)[: true.audio_frames]
        assert not true.has_audio or sound_error.mean() < 0.02  # 16 bits
        assert len(fields["media"]) + len(fields["frames"]) < 0.1 * (
            true.image.nbytes + true.frames.nbytes
        )


def test_stored_files_are_exact(corpus):
    config = dataclasses.replace(CONFIG, kind="bytes")
    for record in corpus[1][:3]:
        fields, _ = pack_media(record, config)
        got, true = stored_views(record, fields, config, VIEWS, LOOK), views_of(record)
        np.testing.assert_array_equal(got.image, true.image)
        np.testing.assert_array_equal(got.frames, true.frames)
        np.testing.assert_array_equal(got.sound, true.sound)
        # Another model samples the same files in its own way, not in that of the build.
        first = read_clip(
            record.path, sampling=Sampling(image="first", temporal="window"), clip_id=record.id
        )
        other = stored_views(
            record, fields, config, VIEWS, Sampling(image="first", temporal="window")
        )
        np.testing.assert_array_equal(other.image, make_views(first, VIEWS).image)
        np.testing.assert_array_equal(other.frames, make_views(first, VIEWS).frames)


def test_an_unknown_peak_is_noted(corpus):
    record = next(r for r in corpus[1] if views_of(r).has_video)
    for peak, noted in ((None, True), (3, False)):
        known = dataclasses.replace(record, peak_index=peak)
        notes = pack_media(known, dataclasses.replace(CONFIG, image_choice="peak"))[1]
        assert any("no peak frame is annotated" in n for n in notes) == noted


def test_sound_that_is_cut_is_noted(corpus):
    record = next(r for r in corpus[1] if views_of(r).has_audio)
    for seconds, noted in ((0.5, True), (30.0, False)):
        fields, notes = pack_media(record, dataclasses.replace(CONFIG, seconds=seconds))
        assert ("only the first 0.5 s of the sound are stored" in notes) == noted
        assert (len(read_flac(fields["sound"])) == 8000) == noted


def test_fewer_frames_are_sampled_from_more(corpus):
    """8 of 16 uniform frames are every second one, within half a step of the frames of 8."""
    record = next(r for r in corpus[1] if views_of(r).has_video)
    fields, _ = pack_media(record, CONFIG)
    got = stored_views(record, fields, CONFIG, dataclasses.replace(VIEWS, num_frames=8), LOOK)
    full = stored_views(record, fields, CONFIG, VIEWS, LOOK)
    np.testing.assert_array_equal(got.frames, full.frames[1::2])


def test_flac_keeps_16_bits():
    wave = np.sin(np.arange(16_000) / 9).astype(np.float32) * 0.7
    assert np.abs(read_flac(write_flac(wave)) - wave).max() < 1 / 32767
    assert np.abs(read_flac(write_flac(np.ones(500, np.float32) * 1.5))).max() == 1.0


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_every_data_set_is_built_and_read_back(fixture, corpus, tmp_path):
    """A folder in the layout of each data set, with one real clip, is built and read back."""
    if fixture.name in IMAGE_SETS:
        picture = io.BytesIO()
        Image.fromarray(
            np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        ).save(picture, "JPEG")
        media_file = picture.getvalue()
    else:
        media_file = Path(corpus[1][0].path).read_bytes()
    write_fixture(fixture, tmp_path / "root", media_file)
    found, files = read_root(tmp_path / "root", names=[fixture.name])
    chosen = choose_records(fixture.name, found[0].records, files)
    assert (
        len(chosen.records) + len(chosen.missing) + sum(chosen.excluded.values()) == fixture.count
    )
    if fixture.first[1] == "unsplit":
        assert chosen.excluded == {"of no split": 1}
        return
    spans = [
        dataclasses.replace(r, start=None, end=None) for r in chosen.records
    ]  # spans of IEMOCAP exceed this clip
    build_set(tmp_path / "out" / fixture.name, spans, CONFIG)
    built = open_built(tmp_path / "out")[fixture.name]
    source = BuiltSource(built, fixture.first[1], VIEWS, LOOK)
    record, views = source[0]
    assert len(source) == 1 and record == spans[0] and views.has_video
    assert views.frames.std() > 1 and views.has_audio == (
        fixture.name not in IMAGE_SETS and views_of(corpus[1][0]).has_audio
    )


def test_packed_fields_are_unpacked():
    fields = {"record": b"{}", "media": b"\x00\n" * 9, "frames": b""}
    assert unpack_fields(pack_fields(fields)) == fields


def test_data_built_for_other_views_are_refused():
    CONFIG.check(VIEWS, Sampling(image="middle", temporal="uniform"))
    CONFIG.check(VIEWS, Sampling(image="middle", temporal="uniform", num_frames=8))
    for sampling, text in (
        (Sampling(image="peak", temporal="uniform"), "image_choice 'middle'"),
        (Sampling(image="middle", temporal="window"), "temporal 'uniform'"),
        (
            Sampling(image="middle", temporal="uniform", num_frames=5),
            "5 frames cannot be sampled evenly",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            CONFIG.check(VIEWS, sampling)
    with pytest.raises(ValueError, match="30 s of sound"):
        CONFIG.check(
            dataclasses.replace(VIEWS, seconds=40.0), Sampling(image="middle", temporal="uniform")
        )
    dataclasses.replace(CONFIG, kind="bytes").check(
        VIEWS, Sampling(image="peak", temporal="window", num_frames=5)
    )


def test_a_build_counts_skipped_clips_and_is_not_repeated(corpus, tmp_path, monkeypatch):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no clip")
    records = [*corpus[1], dataclasses.replace(corpus[1][0], id="bad", path=str(bad))]
    facts = build_set(tmp_path / "out" / "embedded", records, CONFIG, workers=2)
    assert facts["examples"] == {"train": 35, "val": 5, "test": 5} and facts["skipped"] == 1
    [skipped] = json.loads((tmp_path / "out" / "embedded" / "skipped.json").read_text())
    assert skipped["id"] == "bad" and "not a media file" in skipped["reason"]
    built = open_built(tmp_path / "out")["embedded"]
    assert [r.id for r in built.records()] == [r.id for r in records[:-1]]
    source = BuiltSource(built, "train", VIEWS, LOOK)
    assert [source[i][0] for i in range(35)] == [
        r for r in records if r.split == "train" and r.id != "bad"
    ]
    monkeypatch.setattr(shards, "_build_chunk", None)  # the second call decodes nothing
    assert build_set(tmp_path / "out" / "embedded", records, CONFIG) == {
        **facts,
        "state": "was built before",
    }


def test_a_build_continues_after_its_chunks_and_restarts_for_other_clips(
    corpus, tmp_path, monkeypatch
):
    records, folder = corpus[1], tmp_path / "embedded"
    calls = []

    class InThisProcess:  # runs jobs in this process, and stops after two
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def shutdown(self, **_):
            pass

        def submit(self, run, job):
            if len(calls) == 2:
                raise KeyboardInterrupt
            calls.append(job.path.name)
            future = shards.concurrent.futures.Future()
            future.set_result(run(job))
            return future

    with monkeypatch.context() as patch:
        patch.setattr(shards.concurrent.futures, "ProcessPoolExecutor", InThisProcess)
        with pytest.raises(KeyboardInterrupt):
            build_set(folder, records, CONFIG)
    assert len(list(folder.rglob("*.json"))) == 2 and not (folder / "built.json").exists()
    with pytest.raises(ValueError, match="its build has not ended"):
        open_built(tmp_path, names=["embedded"])
    done_counts = []
    build_set(folder, records, CONFIG, progress=lambda task, done, total: done_counts.append(done))
    assert (
        done_counts[0] == 21
    )  # the five test clips and the first sixteen training clips were complete
    assert len(open_built(tmp_path)["embedded"].sources["train"]) == 35
    fewer = [r for r in records if r.split != "test"]
    assert set(build_set(folder, fewer, CONFIG)["examples"]) == {"train", "val"}


def test_repeated_ids_are_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="have the id"):
        build_set(tmp_path / "x", [corpus[1][0], corpus[1][0]], CONFIG)


def test_files_that_no_build_has_written_are_kept(corpus, tmp_path):
    folder = tmp_path / "embedded"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="contains notes.txt, which no build has written"):
        build_set(folder, corpus[1], CONFIG)
    assert (folder / "notes.txt").read_text() == "mine"
    for name in ("../evil", "/tmp/evil", "", ".."):
        with pytest.raises(ValueError, match="needs a plain name"):
            dataclasses.replace(corpus[1][0], dataset=name)


def test_one_build_at_a_time_and_damaged_builds_are_reported(corpus, tmp_path):
    folder = tmp_path / "embedded"
    folder.mkdir()
    with (
        try_lock(folder / shards.LOCK, "held by the test"),
        pytest.raises(ValueError, match="another build is writing"),
    ):
        build_set(folder, corpus[1][:3], CONFIG)
    assert build_set(folder, corpus[1][:3], CONFIG)["state"] == "built"
    assert build_set(folder, corpus[1][:2], CONFIG)["state"].startswith("built again")
    shard = next((folder / "shards").rglob("*.array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ValueError, match="are damaged"):
        open_built(tmp_path)
    (folder / "built.json").write_text("{}")
    with pytest.raises(ValueError, match="built.json is damaged"):
        open_built(tmp_path)


def test_commands(corpus, tmp_path, capsys):
    """records.jsonl builds like a folder; missing clips stop a build unless they are skipped."""
    folder = corpus[0] / "corpus"
    out = str(tmp_path / "out")
    options = ["--image", "middle", "--temporal", "uniform"]
    assert main(["data", "build", str(folder / "records.jsonl"), out, *options]) == 0
    assert "train 35, val 5, test 5; 0 skipped" in " ".join(capsys.readouterr().out.split())
    text = (folder / "records.jsonl").read_text().replace(".mp4", ".gone", 1)
    (tmp_path / "lost.jsonl").write_text(text)
    assert (
        main(["data", "build", str(tmp_path / "lost.jsonl"), str(tmp_path / "o2"), *options]) == 2
    )
    assert "1 clip missing" in capsys.readouterr().err
    assert (
        main(
            [
                "data",
                "build",
                str(tmp_path / "lost.jsonl"),
                str(tmp_path / "o2"),
                *options,
                "--skip-missing",
            ]
        )
        == 0
    )
    with pytest.raises(SystemExit):
        main(["data", "build", str(folder / "records.jsonl"), out, "--quality", "0"])
    with pytest.raises(SystemExit):
        main(["data", "encode", out, str(tmp_path / "c"), "--model", "m", "--batch", "-2"])
    assert main(["data", "build", str(folder / "records.jsonl"), out, "--sets", "meld"]) == 2
    (tmp_path / "empty.jsonl").write_text("")
    assert main(["data", "build", str(tmp_path / "empty.jsonl"), out]) == 2
    capsys.readouterr()
    (tmp_path / "bare").mkdir()
    assert main(["data", "build", str(tmp_path / "bare"), str(tmp_path / "o3")]) == 2
    assert "holds no known data set" in capsys.readouterr().err
    assert (
        main(
            [
                "data",
                "records",
                str(folder / "records.jsonl"),
                "--out",
                str(tmp_path / "e.jsonl"),
                "--instructions",
                "perception",
            ]
        )
        == 0
    )
    from data_pipeline.schema import Example

    lines = (tmp_path / "e.jsonl").read_text().splitlines()
    examples = [Example.from_json(line) for line in lines]
    assert len(examples) == 45 and {e.task for e in examples} == {"emotion", "audio", "image"}
    assert examples[0].to_json() == lines[0]
