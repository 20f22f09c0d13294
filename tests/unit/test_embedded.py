"""The embedded corpus: its best possible scores by arithmetic, its clips and their ground truth."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.embedded import clues
from data_pipeline.embedded.generate import (
    _SEEDS,
    expression_curve,
    load_corpus,
    make_corpus,
    split_labels,
)
from data_pipeline.embedded.truth import (
    EMOTIONS,
    CorpusConfig,
    Reliability,
    best_possible,
    draw_truth,
    likelihood,
)
from data_pipeline.media.clip import Sampling, read_clip


def test_bounds_of_the_default_corpus():
    """No modality alone is above 0.75; all together are between 0.90 and 0.95."""
    config = CorpusConfig()
    for modality in ("video", "audio", "text"):
        assert best_possible(config, modalities=(modality,)) <= 0.75, modality
    assert 0.90 <= best_possible(config) <= 0.95


def test_best_possible_by_hand():
    """One modality that shows the label with 0.6, is flat with 0.4, no conflict, nothing absent.

    Eight labels are right when shown (0.6), neutral is always shown; the best guess for a flat face
    is neutral: (8 * 0.6 + 1) / 9.
    """
    table = Reliability(0.6, 0.4)
    config = CorpusConfig(video=table, audio=table, text=table, conflict=0.0, absent=0.0)
    assert best_possible(config, modalities=("video",)) == pytest.approx((8 * 0.6 + 1) / 9)
    # With two modalities, a label is missed only when both are flat.
    assert best_possible(config, modalities=("video", "text")) == pytest.approx(
        (8 * (1 - 0.4**2) + 1) / 9
    )
    assert best_possible(CorpusConfig(conflict=0.0, absent=1 / 3), modalities=()) == pytest.approx(
        1 / 9
    )


def test_likelihood_sums_to_one_and_agrees_with_draws():
    config = CorpusConfig()
    rng = np.random.default_rng(0)
    for label in ("happy", "neutral"):
        table = likelihood(label, config)
        assert sum(table.values()) == pytest.approx(1.0)
        drawn: dict = {}
        for _ in range(20000):
            t = draw_truth(label, config, rng)
            key = tuple(t.shown[m] for m in ("video", "audio", "text"))
            drawn[key] = drawn.get(key, 0) + 1
        for key, chance in sorted(table.items(), key=lambda kv: -kv[1])[:20]:
            assert drawn.get(key, 0) / 20000 == pytest.approx(
                chance, abs=4 * np.sqrt(chance / 20000)
            ), key


def test_conflict_rule():
    config = CorpusConfig(conflict=1.0)
    truth = draw_truth("angry", config, np.random.default_rng(0))
    assert truth.conflict and truth.shown["video"] == truth.shown["audio"] == "angry"
    assert truth.shown["text"] in ("happy", "surprise")
    assert not draw_truth("neutral", config, np.random.default_rng(0)).conflict


def test_emotions_differ_in_every_modality():
    assert len({clues.EMOTION_AUS[e] for e in EMOTIONS}) == 9
    assert len({clues.tone_clues(clues.EMOTION_TONES[e]) for e in EMOTIONS}) == 9
    cues = [cue for e in EMOTIONS for cue in clues.CUES[e]]
    assert len(set(cues)) == len(cues)
    assert len(set(clues.WORD_PHRASES.values())) == 9 and set(clues.WORD_PHRASES) == set(EMOTIONS)


def test_no_phrase_is_part_of_another():
    """find_clues matches substrings: no phrase may be part of another."""
    phrases = [p for group in clues.all_phrases().values() for p in group]
    for a, b in itertools.permutations(phrases, 2):
        assert a not in b, (a, b)


def test_find_clues_reads_the_texts():
    found = clues.find_clues(
        "The picture shows lowered brows, wide open eyes, the person says words of joy"
    )
    assert found == {
        "video": ("lowered brows", "wide open eyes"),
        "audio": (),
        "text": ("words of joy",),
    }


def test_expression_has_one_apex():
    curve = expression_curve(24, 10, 0.9)
    assert (
        curve.argmax() == 10
        and (curve == curve.max()).sum() == 1
        and curve.max() == pytest.approx(0.9)
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, CorpusConfig]:
    config = CorpusConfig(train=18, val=9, test=9, conflict=0.3, absent=0.2)
    return make_corpus(config=config, folder=tmp_path_factory.mktemp("corpus") / "c"), config


def test_clips_contain_what_their_truth_says(small):
    folder, _ = small
    records = load_corpus(folder)
    assert [sum(r.split == s for r in records) for s in ("train", "val", "test")] == [18, 9, 9]
    absent = 0
    for r in records:
        clip = read_clip(r.path, sampling=Sampling(index=r.peak_index), subtitle=r.subtitle)
        shown = {m for m, e in r.truth["shown"].items() if e is not None}
        assert set(clip.modalities) == shown, r.id
        absent += len(shown) < 3
        named = clues.find_clues(r.texts["reason"])
        assert {m: sorted(c) for m, c in named.items()} == {
            m: sorted(c) for m, c in r.truth["clues"].items()
        }, r.id
        assert all(bool(named[m]) == (m in shown) for m in named)
        assert r.texts["reason"].endswith(r.label)
        if "video" in shown:
            assert clip.image_index == r.peak_index and 0.3 < r.peak_index / clip.num_frames < 0.7
    assert absent >= 5


def test_splits_share_no_person_voice_background_or_phrase(small):
    folder, _ = small
    for a, b in itertools.combinations(_SEEDS.values(), 2):
        assert not set(a) & set(b)
    records = load_corpus(folder)
    for r in records:
        assert all(r.truth[k] in _SEEDS[r.split] for k in ("person", "background", "voice"))
    for a, b in itertools.combinations(("train", "val", "test"), 2):
        words = [{r.subtitle for r in records if r.split == s and r.subtitle} for s in (a, b)]
        assert not words[0] & words[1]
        assert not set(clues._OPENERS[a]) & set(clues._OPENERS[b]) and not set(
            clues._TOPICS[a]
        ) & set(clues._TOPICS[b])


def test_corpus_is_deterministic_and_cached(small, tmp_path):
    folder, config = small
    before = (folder / "records.jsonl").stat().st_mtime_ns
    assert (
        make_corpus(config=config, folder=folder) == folder
        and (folder / "records.jsonl").stat().st_mtime_ns == before
    )
    with pytest.raises(ValueError, match="other settings"):
        make_corpus(config=CorpusConfig(train=1), folder=folder)
    again = make_corpus(config=config, folder=tmp_path / "again")
    assert [r.truth for r in load_corpus(again)] == [r.truth for r in load_corpus(folder)]
    name = "clips/train_00003.mp4"
    assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_labels_are_balanced():
    labels = split_labels("test", CorpusConfig())
    counts = [labels.count(e) for e in EMOTIONS]
    assert len(labels) == 300 and max(counts) - min(counts) <= 1
