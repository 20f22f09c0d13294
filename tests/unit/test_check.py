"""`emojax data check` finds damaged, repeated and leaking clips."""

import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest

from data_pipeline.datasets.check import check_root
from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.media.fingerprint import Media, alike, find_alike, inspect_all, inspect_media
from emojax.cli.main import main


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("k")
    records = load_corpus(
        make_corpus(config=CorpusConfig(train=12, val=1, test=1), folder=folder / "corpus")
    )
    return [
        Path(r.path) for r in records if r.truth["shown"]["video"] and r.truth["shown"]["audio"]
    ][:6]


def encode_again(source: Path, target: Path, width: int, rate: int) -> None:
    """The same clip at another size, quality and sample rate."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        picture, sound = old.streams.video[0], old.streams.audio[0]
        height = round(width * picture.height / picture.width / 2) * 2
        video = new.add_stream("libx264", rate=picture.average_rate, options={"crf": "34"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = new.add_stream("aac", rate=rate)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        for frame in old.decode(picture):
            new.mux(video.encode(frame.reformat(width, height, "yuv420p")))
        new.mux(video.encode(None))
        old.seek(0)
        for frame in old.decode(sound):
            for out in resampler.resample(frame):
                new.mux(audio.encode(out))
        new.mux(audio.encode(None))


def test_a_copy_in_another_encoding_is_found_and_other_clips_are_not(clips, tmp_path):
    for i, (width, rate) in enumerate(((320, 22_050), (96, 48_000))):
        encode_again(clips[i], tmp_path / f"{i}.mp4", width, rate)
    files = [*map(str, clips), str(tmp_path / "0.mp4"), str(tmp_path / "1.mp4")]
    pairs = find_alike(inspect_all(files).values())
    assert {frozenset((a.path, b.path)) for a, b in pairs} == {
        frozenset((str(clips[i]), str(tmp_path / f"{i}.mp4"))) for i in range(2)
    }
    assert all(a.sha256 != b.sha256 for a, b in pairs)


def test_real_clips_of_the_same_people_are_not_alike(real_data):
    """192 clips of eight actors: pictures differ by as little as 3 bits, sound separates them."""
    files = sorted(map(str, (real_data / "java_sed" / "video").glob("*.mp4")))
    media = inspect_all(files)
    assert len(media) == 192 and not any(m.error for m in media.values())
    assert find_alike(media.values()) == []


def test_silent_media_need_almost_equal_pictures():
    one = Media(path="a", size=1, mtime=1, sha256="x", seconds=2.0, pictures=(0, 0, 0, 0))
    assert alike(
        one, Media(path="b", size=1, mtime=1, sha256="y", seconds=2.0, pictures=(1, 0, 1, 0))
    )
    assert not alike(
        one, Media(path="b", size=1, mtime=1, sha256="y", seconds=2.0, pictures=(1, 3, 1, 0))
    )
    assert not alike(
        one, Media(path="b", size=1, mtime=1, sha256="y", seconds=3.0, pictures=(0, 0, 0, 0))
    )
    assert not alike(
        one,
        Media(path="b", size=1, mtime=1, sha256="y", seconds=2.0, pictures=(0, 0, 0, 0), sound=5),
    )
    assert alike(one, Media(path="b", size=1, mtime=1, sha256="x", seconds=9.0))  # the same bytes


def test_fingerprints_of_unchanged_files_are_kept(clips, tmp_path, monkeypatch):
    store = tmp_path / "media.jsonl"
    first = inspect_all([str(clips[0])], store=store)
    store.write_text(store.read_text() + '{"path": "cut o')
    monkeypatch.setattr("data_pipeline.media.fingerprint.inspect_media", None)
    assert inspect_all([str(clips[0])], store=store) == first
    monkeypatch.undo()
    copy = tmp_path / "c.mp4"
    copy.write_bytes(clips[0].read_bytes())
    inspect_all([str(copy)], store=store)
    copy.write_bytes(clips[1].read_bytes())
    assert (
        inspect_all([str(copy)], store=store)[str(copy)].sha256
        == inspect_media(str(clips[1])).sha256
    )


def write_set(root: Path, rows: list[tuple[str, str, str, bytes]]) -> None:
    """A folder in Java-SED's layout: (file, actor, split, bytes)."""
    folder = root / "java_sed"
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "actor", "emotion", "split"])
        for name, actor, split, data in rows:
            writer.writerow([name, actor, "sad", split])
            if data:
                (folder / name).write_bytes(data)


def test_leaks_and_faults_of_a_set(clips, tmp_path, capsys):
    data = [c.read_bytes() for c in clips]
    write_set(
        tmp_path / "root",
        [
            ("a.mp4", "1", "train", data[0]),
            ("b.mp4", "2", "train", data[1]),
            ("c.mp4", "1", "test", data[2]),  # a speaker of train
            ("d.mp4", "3", "test", data[0]),  # a clip of train under another name
            ("e.mp4", "4", "val", b"damaged"),
            ("f.mp4", "5", "val", b""),  # missing
        ],
    )
    report = check_root(tmp_path / "root", names=["java_sed"])
    media = report["sets"]["java_sed"]["media"]
    assert (media["wanted"], media["found"], media["missing"], media["unreadable"]) == (6, 5, 1, 1)
    assert media["missing_such_as"] == [str(tmp_path / "root" / "java_sed" / "f.mp4")]
    [speaker] = report["leaks"]
    assert (speaker["kind"], speaker["held_out"], speaker["such_as"]) == (
        "speaker",
        "java_sed test",
        ["1"],
    )
    [twin] = report["near_duplicates"]
    assert (
        twin["exact"] and twin["leak"] and [Path(twin[k]).name for k in "ab"] == ["a.mp4", "d.mp4"]
    )
    assert report["sets"]["java_sed"]["seconds"]["total"] == pytest.approx(
        sum(inspect_media(str(clips[i])).seconds for i in (0, 1, 2, 0)), abs=0.01
    )
    out = tmp_path / "out"
    assert (
        main(["data", "check", str(tmp_path / "root"), "--sets", "java_sed", "--out", str(out)])
        == 0
    )
    text = " ".join(capsys.readouterr().out.split())
    assert "LEAK: 1 speaker of java_sed train also in java_sed test: 1" in text
    assert (
        "the same file" in text and "e.mp4: not a media file" in text and "1 clip missing" in text
    )
    assert json.loads((out / "report.json").read_text())["leaks"] == report["leaks"]
    assert (out / "counts.csv").read_text().splitlines()[0] == "set,fold,split,label,clips"
    assert (out / "counts.png").read_bytes()[:4] == b"\x89PNG"


def test_duplicates_leak_within_a_fold_but_not_across_folds(clips, tmp_path):
    folder = tmp_path / "DFEW"
    for fold, train, test in ((1, "00001", "00002"), (2, "00002", "00003")):
        for mode, clip in (("train", train), ("test", test)):
            path = folder / "EmoLabel_DataSplit" / f"{mode}(single-labeled)" / f"set_{fold}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"video_name,label\n{int(clip)},1\n")
    (folder / "Clip" / "original").mkdir(parents=True)
    for name, source in (("00001", 0), ("00002", 0), ("00003", 1)):
        (folder / "Clip" / "original" / f"{name}.mp4").write_bytes(clips[source].read_bytes())
    report = check_root(tmp_path, names=["dfew"])
    assert (
        report["leaks"] == []
    )  # 00002 is in test of one fold and in train of the other, as intended
    [twin] = report["near_duplicates"]
    assert twin["leak"] and [Path(twin[k]).stem for k in "ab"] == ["00001", "00002"]


def test_refusals_and_empty_roots_have_exit_codes(real_data, tmp_path, capsys):
    root = real_data / "annotations"
    options = ["--sets", "merr_fine", "--out", str(tmp_path)]
    assert main(["data", "check", str(root), *options]) == 3
    out = capsys.readouterr().out
    assert "REFUSED" in out and "row 12: invalid JSON: a line break inside a text" in out.replace(
        "\n", " "
    ).replace("  ", " ")
    assert main(["data", "check", str(root), *options, "--lenient"]) == 0
    assert "7 places of" in capsys.readouterr().out
    assert main(["data", "check", str(root), *options, "--lenient", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sets"]["merr_fine"]["clips"] == 4487
    assert main(["data", "check", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert main(["data", "list"]) == 0 and "iemocap" in capsys.readouterr().out


def test_silence_has_no_loudness_hash(tmp_path):
    from data_pipeline.media.fingerprint import difference_hash, loudness_hash

    assert loudness_hash(np.zeros(16_000, np.float32)) is None
    ramp = np.linspace(0, 1, 16_000).astype(np.float32)
    assert loudness_hash(ramp) == (1 << 63) - 1 and loudness_hash(ramp[::-1]) == 0
    picture = np.tile(np.arange(0, 252, 28, dtype=np.uint8)[None, :, None], (9, 1, 3))
    assert difference_hash(picture) == (1 << 64) - 1 and difference_hash(picture[:, ::-1]) == 0
