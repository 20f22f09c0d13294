"""Decoded views on disk equal the decoded clips; failures are listed, empty splits dropped."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipeline.builders.decoded_clips import NOTES, build_views
from data_pipeline.embedded.generate import load_corpus, make_corpus
from data_pipeline.embedded.truth import CorpusConfig
from data_pipeline.loader.samples import read_element
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.views import ViewConfig, make_views

VIEWS = ViewConfig(image_size=32, frame_size=16, num_frames=4, mels=80, seconds=1.0)


def sampling(peak: int | None) -> Sampling:
    return Sampling(index=peak, num_frames=4)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("b")
    records = load_corpus(
        make_corpus(config=CorpusConfig(train=9, val=1, test=1), folder=folder / "corpus")
    )
    bad = folder / "bad.mp4"
    bad.write_bytes(b"no mp4")
    records = [r if r.split == "train" else dataclasses.replace(r, path=str(bad)) for r in records]
    return folder, records, build_views(folder / "views", records, VIEWS, sampling)


def test_stored_views_equal_those_of_the_clips(built):
    _, records, (sources, _, _) = built
    stored = {r.id: (r, v) for r, v in (read_element(sources["train"][i], VIEWS) for i in range(9))}
    for record in records[:9]:
        same, views = stored[record.id]
        clip = read_clip(
            record.path,
            sampling=sampling(record.peak_index),
            clip_id=record.id,
            subtitle=record.subtitle,
        )
        want = make_views(clip, VIEWS)
        assert same == record
        np.testing.assert_array_equal(views.image, want.image)
        np.testing.assert_array_equal(views.frames, want.frames)
        np.testing.assert_allclose(views.sound, want.sound, atol=1e-3)  # float16
        assert (views.audio_frames, views.has_audio) == (want.audio_frames, want.has_audio)


def test_failures_are_listed_and_an_empty_split_is_dropped(built):
    _, records, (sources, skipped, _) = built
    assert set(sources) == {"train"}
    assert {s["id"] for s in skipped} == {r.id for r in records if r.split != "train"}
    assert all(s["reason"] for s in skipped)


def test_a_clip_that_fails_in_one_split_is_kept_in_another(built, tmp_path):
    """Ids are unique within a split only."""
    good = next(r for r in built[1] if r.split == "train")
    bad = dataclasses.replace(good, split="test", path=str(built[0] / "bad.mp4"))
    sources, skipped, _ = build_views(tmp_path, [good, bad], VIEWS, sampling)
    assert set(sources) == {"train"} and [s["split"] for s in skipped] == ["test"]


def test_irregularities_are_listed_and_a_second_call_decodes_nothing(built, monkeypatch):
    folder, records, (_, _, home) = built
    notes = json.loads((home / NOTES).read_text())
    # Clips of the corpus last more than 1.6 s: all with sound are longer than the window.
    with_sound = {r.id for r in records if r.split == "train" and r.truth["shown"]["audio"]}
    assert {n["id"] for n in notes if "hears the first 1 s" in n["reason"]} == with_sound
    monkeypatch.setattr("data_pipeline.builders.decoded_clips._decode", None)
    assert set(build_views(folder / "views", records, VIEWS, sampling)[0]) == {"train"}


def test_a_split_larger_than_memory_allows_goes_through_files(built, tmp_path, monkeypatch):
    """TFDS sorts more than a gigabyte through files that it opens by TensorFlow (not installed).

    Every data set of full size needs this.
    """
    _, records, (sources, _, _) = built
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 1)
    train = [r for r in records if r.split == "train"]
    again = build_views(tmp_path, train, VIEWS, sampling)[0]["train"]
    assert len(again) == len(sources["train"]) == 9
    first, second = (
        {r.id: v for r, v in (read_element(s[i], VIEWS) for i in range(9))}
        for s in (sources["train"], again)
    )
    assert set(first) == set(second)
    for name, views in first.items():
        np.testing.assert_array_equal(views.image, second[name].image)
        np.testing.assert_array_equal(views.sound, second[name].sound)
    assert not list(tmp_path.rglob("bucket_*")), "temporary files remain"
