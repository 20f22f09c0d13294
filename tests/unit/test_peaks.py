"""Action units read from OpenFace and py-feat, and peaks: worked examples, embedded truth."""

import numpy as np
import pytest
from recording import record

from data_pipeline.annotate import peaks, units
from data_pipeline.annotate.peaks import find_apex, find_peak
from data_pipeline.annotate.unit_tracks import UnitsError, provider_named, read_units

MERR = units.TABLES["merr"]
HEAD = "frame, face_id, timestamp, confidence, success, AU05_r, AU26_r, AU45_r, AU05_c, AU26_c\n"


def write(folder, text, name="clip.csv"):
    path = folder / name
    path.write_text(text)
    return path


def rows(*cells):
    return HEAD + "".join(", ".join(map(str, c)) + "\n" for c in cells)


def test_the_published_example(tmp_path):
    """MERR's sample_00000047, surprise: frame 1 (0.36 + 1.02 = 1.38) beats frame 7 (0.00 + 1.25).

    There is no threshold. OpenFace counts frames from 1, a Peak from 0.
    """
    low = [(n, 0, (n - 1) / 25, 0.98, 1, 0.1, 0.5, 0, 0, 0) for n in range(2, 7)]
    path = write(
        tmp_path,
        rows(
            (1, 0, 0.0, 0.98, 1, 0.36, 1.02, 3.0, 1, 1),
            *low,
            (7, 0, 0.24, 0.98, 1, 0.00, 1.25, 0, 0, 1),
        ),
    )
    found = find_peak(read_units(path), "surprise", MERR)
    assert (found.index, found.time, found.by) == (0, 0.0, peaks.LABEL_UNITS)
    assert found.units == (5, 26) and found.intensities[5] == 0.36 and found.intensities[26] == 1.02


def test_all_units_without_a_label_and_where_none_of_the_label_is_present(tmp_path):
    path = write(
        tmp_path, rows((1, 0, 0, 1, 1, 2.0, 0.1, 5, 1, 0), (2, 0, 0.04, 1, 1, 1.0, 1.5, 0, 1, 1))
    )
    track = read_units(path)
    assert find_peak(track, None, MERR).index == 1  # 2.5 against 2.1; a blink (45) does not count
    assert find_peak(track, None, MERR).by == peaks.ALL_UNITS
    happy = find_peak(track, "happy", MERR)  # 6, 12 and 14 were not even measured
    assert (happy.index, happy.by, happy.units, happy.all_units) == (
        1,
        peaks.ALL_UNITS,
        (),
        (5, 26),
    )
    assert find_peak(track, "Surprised", MERR).units == (5, 26)  # another spelling
    assert find_peak(track, "no such label", MERR).by == peaks.ALL_UNITS


def test_the_peak_of_a_face_at_rest_is_the_middle_frame(tmp_path):
    cells = [(n, 0, n / 25, 1, int(n > 2), 0, 0, 0, 0, 0) for n in range(1, 8)]
    found = find_peak(read_units(write(tmp_path, rows(*cells))), "happy", MERR)
    assert (found.index, found.by, found.units, found.all_units) == (
        4,
        peaks.AT_REST,
        (),
        (),
    )  # of frames 3 to 7


def test_units_of_other_labels_do_not_count(tmp_path):
    text = (
        "frame,timestamp,AU04_r,AU05_r,AU04_c,AU05_c\n"
        "1,0.00,5.0,0.6,1,1\n2,0.04,0.0,2.0,0,1\n3,0.08,4.0,0.5,1,0\n"
    )
    track = read_units(write(tmp_path, text))
    assert [
        find_peak(track, label, MERR).index for label in ("surprise", "sad", "angry", None)
    ] == [1, 0, 0, 0]


def test_frames_without_a_face_and_several_faces(tmp_path):
    path = write(
        tmp_path,
        rows(
            (1, 0, 0, 0.98, 1, 1.0, 1.0, 0, 1, 1), (2, 0, 0.04, 0.2, 1, 5.0, 5.0, 0, 1, 1),
            (3, 0, 0.08, 0.98, 0, 5.0, 5.0, 0, 1, 1), (4, 0, 0.12, 0.98, 1, 1.5, 1.0, 0, 1, 1),
            (4, 1, 0.12, 0.99, 1, 5.0, 5.0, 0, 1, 1),
        ),
    )  # fmt: skip
    track = read_units(path)
    assert find_peak(track, "surprise", MERR).index == 3
    assert "2 faces" in track.notes[0]
    nobody = read_units(write(tmp_path, rows((1, 0, 0, 0.1, 0, 5, 5, 0, 1, 1)), "no.csv"))
    assert (
        find_peak(nobody, "surprise", MERR) is None
        and not nobody.has_face
        and "no face" in nobody.notes[0]
    )


def test_py_feat_counts_from_zero_and_has_empty_rows(tmp_path):
    path = write(
        tmp_path,
        "FaceRectX,FaceScore,AU04,AU12,AU43,anger,frame,approx_time\n"
        "1,0.99,0.2,0.7,0.9,0,0,00:00\n"
        ",,,,,,1,00:00\n"
        "1,0.99,0.1,0.9,0.1,0,2,00:00\n",
    )
    track = read_units(path)
    found = find_peak(track, "happiness", MERR)
    assert (track.source, track.scale, found.index, found.time) == ("py-feat", 1.0, 2, None)
    assert found.units == (12,)


def test_a_table_of_a_picture_has_one_frame(tmp_path):
    """FaceLandmarkImg writes a row for each face, without frames, times and success."""
    head = "face, confidence, gaze_0_x, AU05_r, AU26_r, AU05_c, AU26_c\n"
    path = write(tmp_path, head + "0, 0.78, 0.1, 0, 0, 0, 0\n1, 0.98, 0.1, 1.5, 0.4, 1, 0\n")
    track = read_units(path)
    assert track.frames.tolist() == [0] and track.times is None
    assert (track.active(0), track.intensity[5].tolist()) == ((5,), [1.5])
    assert track.notes == ("2 faces: the one that is detected most confidently is used",)


@pytest.mark.parametrize("blank", ["", " ", "nan", "-nan(ind)", "NaN"])
def test_blank_cells_are_not_measured(tmp_path, blank):
    path = write(
        tmp_path,
        rows(
            (1, 0, 0, 0.98, 1, 1.0, blank, 0, 1, blank), (2, 0, 0.04, 0.98, blank, 5, 5, 0, 1, 1),
            (3, 0, 0.08, blank, 1, 5, 5, 0, 1, 1), (blank,) * 10,
        ),
    )  # fmt: skip
    track = read_units(path)
    assert track.frames.tolist() == [0, 1, 2] and track.active(0) == (5,)
    assert np.isnan(track.intensity[26]).all() and track.active(1) == track.active(2) == ()


def test_consecutively_numbered_columns_must_be_named(tmp_path):
    text = (
        "frame,timestamp,"
        + ",".join(f"AU0{i}_r" for i in range(1, 9))
        + "\n1,0.0,0,0,0,0,0,0,0,3\n2,0.04,0,0,0,0,0,0,0,1\n"
    )
    path = write(tmp_path, text)
    with pytest.raises(UnitsError, match="no FACS numbers; specify which"):
        read_units(path)
    track = read_units(path, eight_units=(1, 2, 4, 6, 9, 12, 25, 26))
    assert find_peak(track, "surprise", MERR).units == (26,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no rows"),
        (HEAD, "no rows"),
        ("frame,confidence\n1,1\n", "no column of an action unit"),
        ("frame,AU01_r\n1,much\n", "column 'AU01_r': not all values are numbers"),
        ("frame,AU01_r\n1,1,2\n", "not a table"),
        ("frame,AU01_r,AU01_r\n1,1,2\n", "occurs twice"),
        ("frame,AU01_r\n,1\n", "no frame number"),
    ],
)
def test_unreadable_files(tmp_path, text, fault):
    with pytest.raises(UnitsError, match=fault):
        read_units(write(tmp_path, text))


def test_a_span_has_its_own_frames(tmp_path):
    cells = [
        (n, 0, round((n - 1) / 10, 2), 1, 1, [0, 9, 1, 2, 1][n - 1], 0, 0, 1, 0)
        for n in range(1, 6)
    ]
    track = read_units(write(tmp_path, rows(*cells)))
    assert find_peak(track, None, MERR).index == 1
    assert find_peak(track.within(0.2, 0.5), None, MERR).index == 1  # frame 3 of the file
    assert track.within(7.0, None) is None


def test_the_embedded_truth(tmp_path):
    """The apex of the drawn expression is found within a frame, also with noisy units."""
    from data_pipeline.embedded.generate import load_corpus, make_corpus
    from data_pipeline.embedded.truth import CorpusConfig

    folder = make_corpus(
        config=CorpusConfig(train=40, val=0, test=40, size=64), folder=tmp_path / "corpus"
    )
    near = {"true": [], "noisy": []}
    rng = np.random.default_rng(0)
    for clip in load_corpus(folder):
        if clip.truth["shown"]["video"] in (None, "neutral"):
            continue  # nothing moves
        track = read_units(folder / "units" / f"{clip.id}.csv")
        near["true"].append(abs(find_peak(track, clip.label, MERR).index - clip.peak_index) <= 1)
        noisy = {
            u: np.clip(x + rng.normal(0, 0.15, len(x)), 0, 5) for u, x in track.intensity.items()
        }
        track = peaks.dataclasses.replace(track, intensity=noisy)
        near["noisy"].append(abs(find_peak(track, clip.label, MERR).index - clip.peak_index) <= 1)
    assert len(near["true"]) > 40 and np.mean(near["true"]) >= 0.95
    assert np.mean(near["noisy"]) >= 0.7


def test_without_units_the_apex_is_where_picture_and_sound_move(tmp_path):
    path = record(tmp_path / "talk.mp4", [(1.0, 1), (1.0, 2)], [(0.9, 1.3)])
    found = find_apex(str(path))
    assert (
        found.by == peaks.APEX
        and abs(found.time - 1.0) <= 0.2
        and found.index == pytest.approx(25, abs=5)
    )
    assert (
        find_apex(str(record(tmp_path / "voice.mp4", [(1.0, 1)], [(0.1, 0.9)], video=False)))
        is None
    )


def test_the_apex_of_a_span_is_within_it(tmp_path):
    path = record(tmp_path / "talk.mp4", [(1.0, 1), (1.0, 2), (1.0, 3)], [(0.9, 1.3), (1.9, 2.3)])
    late, early = (
        find_apex(str(path), start=1.5, end=3.0),
        find_apex(str(path), start=None, end=1.5),
    )
    assert abs(late.time - 2.0) <= 0.2 and late.index == pytest.approx(
        12, abs=5
    )  # 25 frames a second, from 1.5 s
    assert abs(early.time - 1.0) <= 0.2 and early.index == pytest.approx(25, abs=5)
    assert find_apex(str(path), start=7.0, end=8.0) is None


def test_where_units_are_from(tmp_path):
    write(tmp_path, rows((1, 0, 0, 1, 1, 1, 1, 0, 1, 1)), "a_openface.csv")
    files = provider_named(str(tmp_path))
    assert files("/elsewhere/a.mp4").source == "openface" and files("/elsewhere/b.mp4") is None
    (tmp_path / "x").mkdir()
    write(tmp_path / "x", rows((1, 0, 0, 1, 1, 1, 1, 0, 1, 1)), "a.csv")
    assert files.file("/clips/x/a.mp4") == tmp_path / "x" / "a.csv"
    assert files.file("/clips/y/a.mp4") == tmp_path / "a_openface.csv"
    assert provider_named("none") is None
    with pytest.raises(ValueError, match="neither a folder"):
        provider_named("/no/such/folder")
