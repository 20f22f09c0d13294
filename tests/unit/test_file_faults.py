"""Files that cannot be decoded are called what they are, the same by every reader."""

import contextlib
import io
import json
import os
import struct
import unicodedata
import zipfile

import av
import numpy as np
import pytest
from PIL import Image

from data_pipeline.datasets.file_index import FileIndex, search_media
from data_pipeline.embedded.generate import write_mp4
from data_pipeline.media import clip
from data_pipeline.media.clip import Sampling, mix_channels, read_clip
from data_pipeline.media.container import ClipError, one_file, open_media
from data_pipeline.media.file_faults import cut_off, structure_fault
from data_pipeline.media.file_kinds import (
    AUDIO_SUFFIXES,
    MEDIA_SUFFIXES,
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    is_hidden,
)
from data_pipeline.media.notes import count_notes, counted, merge_notes
from data_pipeline.media.stream import open_recording, recording_seconds

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4a\nsize 1234567\n"
S3 = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(12)
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(200)
NO_INDEX = struct.pack(">I", 16) + b"ftypisom" + bytes(4) + struct.pack(">I", 5000) + b"mdat"
NO_INDEX += os.urandom(300)


def zipped(*, locked: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("clip.mp4", b"x" * 100)
    data = bytearray(file.getvalue())
    data[6] |= locked
    return bytes(data)


FAULTS = {
    "lfs.flv": (LFS, r"pointer of git-lfs to one of 1\.2 MB.*git lfs pull"),
    "annex.mp4": (b"/annex/objects/SHA256E-s1--4a.mp4", "git annex get"),
    "page.mp4": (
        b"\n<!-- x --><!DOCTYPE html><html><head><title>Quota &amp; more</title>",
        r"web page \(HTML\) with the title 'Quota & more'",
    ),
    "denied.mkv": (S3, "XML document.*AccessDenied"),
    "error.webm": (json.dumps({"error": "Not Found"}).encode(), "JSON text.*Not Found"),
    "text.wav": (b"404: Not Found\n", "it is a text .'404: Not Found'"),
    "list.mp4": (b"#EXTM3U\n#EXTINF:3,\n/etc/passwd\n", "playlist"),
    "clip.mp4": (zipped(), "a zip archive: unpack it"),
    "secret.mp4": (zipped(locked=True), "a zip archive that is encrypted: unpack it"),
    "._clip.mp4": (APPLE_DOUBLE, "a Mac stores beside a file"),
    "photo.jpg": (HEIC, "HEIC picture is not supported"),
    "reserved.mp4": (bytes(9000), "nothing but zeros"),
    "noise.mp4": (os.urandom(70_000), "random"),
    "cut.mp4": (NO_INDEX, r"its index \(the part 'moov'\) is missing.*cut off"),
    "clip.mp4.crdownload": (bytes(range(1, 256)) * 9, "'.crdownload' marks a download"),
    "empty.mp4": (b"", "the file is empty"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_is_called_what_it_is_by_clips_and_recordings(tmp_path, name):
    content, message = FAULTS[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ClipError, match=message) as of_clip:
        read_clip(path)
    with pytest.raises(ClipError) as of_recording:
        open_recording(str(path))
    assert str(of_clip.value) == str(of_recording.value)


@pytest.mark.parametrize(
    "content",
    [
        zipped(locked=True),
        b"RIFF\x10\0\0\0WEBPVP8X\x0a\0\0\0\2" + bytes(9),
        b"RIFF\xff\0\0\0WAVEfmt ",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x43\xe8",
        b"\0\0\0\1mdat\0\0\0\0\0\0\0\x40",
    ],
    ids=["zip", "webp", "wav", "mkv", "mp4"],
)
def test_a_head_that_is_cut_off_at_any_byte_raises_no_other_error(content):
    for length in range(min(40, len(content))):
        with contextlib.suppress(ClipError):
            open_media(content[:length]).close()


def test_a_server_does_not_quote_files_that_are_not_named_as_media(tmp_path):
    (tmp_path / ".env").write_text("TOKEN=very-secret\n")
    with pytest.raises(ClipError, match="it is a text$"):
        read_clip(tmp_path / ".env")


def test_any_error_refuses_the_one_file():
    with pytest.raises(ClipError, match=r"cannot be decoded \(AttributeError: codec\)"), one_file():
        raise AttributeError("codec")
    with pytest.raises(KeyboardInterrupt), one_file():
        raise KeyboardInterrupt


def test_pipes_and_links_to_nothing_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(".git/annex/objects/SHA256E-s1--4a.mp4")
    for read in (read_clip, open_recording, recording_seconds):
        with pytest.raises(ClipError, match="this is a pipe, not a regular file"):
            read(str(tmp_path / "pipe.mp4"))
        with pytest.raises(ClipError, match=r"the link points to '\.git/annex.*git annex get"):
            read(str(tmp_path / "link.mp4"))
        with pytest.raises(ClipError, match="standard input is not read"):
            read("-")


def test_announced_sizes_tell_that_a_file_is_cut_off():
    wav = b"RIFF" + struct.pack("<I", 10_000) + b"WAVEfmt "
    assert "announces 10.0 kB and has 16 bytes" in cut_off(io.BytesIO(wav))
    streamed = b"RIFF\xff\xff\xff\xffWAVEfmt "
    assert cut_off(io.BytesIO(streamed)) == ""
    assert cut_off(io.BytesIO(b"RIFF" + struct.pack("<I", 8) + b"WAVEfmt ")) == ""
    # EBML: an empty header, then a segment of 1000 bytes, or of unknown length.
    ebml = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67"
    assert "announces 1.0 kB and has 11 bytes" in cut_off(io.BytesIO(ebml + b"\x43\xe8"))
    assert cut_off(io.BytesIO(ebml + b"\xff")) == ""
    assert structure_fault(io.BytesIO(NO_INDEX), opened=True)


def test_every_suffix_is_one_of_the_decoder_or_another_name_of_one():
    known = set()
    for name in av.formats_available:
        for mode in ("r", "w"):
            try:
                known |= {f".{s}" for s in av.format.ContainerFormat(name, mode).extensions}
            except ValueError:
                continue
    aliases = ".3gpp .qt .ogm .ogx .divx .xvid .rmvb .mpe .mpv .m2p .mp2v .mod .tod .trp .tp .vro"
    aliases += " .evo .dvr-ms .lrv .insv .nsv .snd .m4p .m4r .mp1 .mpga .3ga .awb .weba .rf64"
    aliases += " .bwf .qcp .dsf .jpe .jfif .pnm"
    suffixes = {*VIDEO_SUFFIXES, *AUDIO_SUFFIXES, *PICTURE_SUFFIXES}
    assert suffixes - known == set(aliases.split())
    usual = ".mts .m2ts .mpg .wmv .flv .3gp .ogv .mxf .vob .aiff .opus .m4b .amr .gif .au"
    assert set(usual.split()) <= MEDIA_SUFFIXES


def test_a_folder_gives_its_media_and_names_what_it_leaves_out(tmp_path):
    names = "B.MTS a.mp4 sub/c.JPG ._a.mp4 .DS_Store Thumbs.db .git/d.mp4 __MACOSX/e.mp4"
    names += " notes.txt x.mp4.part .f.mp4.icloud a.jpg"
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "a.ppm").write_text("P3\n1 1\n255\n0 0 0\n")
    os.mkfifo(tmp_path / "pipe.wav")
    found = search_media([tmp_path, "given.xyz"])
    relative = [os.path.relpath(path, tmp_path) for path in found.files[:-1]]
    assert relative == ["B.MTS", "a.mp4", "pipe.wav", "sub/c.JPG"]
    assert found.files[-1] == "given.xyz"
    others = [str(tmp_path / n) for n in (".f.mp4.icloud", "x.mp4.part")]
    assert found.notes() == [
        f"left out (not media by name): {', '.join(others)}",
        f"left out (pictures that are not clips of their own): {tmp_path / 'a.jpg'} (the file is"
        " empty (0 bytes): the recording, the copy or the download failed),"
        f" {tmp_path / 'a.png'} (not a media file: it is a pointer of git-lfs to one: run"
        f" `git lfs pull`), {tmp_path / 'a.ppm'}",
    ]
    assert search_media([tmp_path], pictures=False).files == found.files[:3]
    (tmp_path / "empty").mkdir()
    (tmp_path / unicodedata.normalize("NFD", "café.mp4")).touch()
    other = search_media([tmp_path / "empty", tmp_path / "café.mp4"])
    assert other.notes() == [f"there is no media file in {tmp_path / 'empty'}"]
    assert [unicodedata.is_normalized("NFD", f) for f in other.files] == [True]
    assert is_hidden("desktop.ini") and not is_hidden("desktop.mp4")


def test_notes_are_counted_and_numbers_become_ranges():
    late, quiet = "the sound starts at {} s", "there is no picture"
    notes = [(late.format("0.50"), quiet), (late.format("1.25"),), (), (quiet,), (quiet,)]
    assert count_notes(notes) == [
        f"3 clips: {quiet}",
        "2 clips: the sound starts at 0.50 to 1.25 s",
    ]
    heard = [(f"the model hears the first 2.5 s of {s} s of sound",) for s in (5.0, "1,200", 40)]
    (line,) = count_notes(heard)
    assert line == "3 clips: the model hears the first 2.5 s of 5.0 to 1,200 s of sound"
    names = [(f"words: talk{i}.srt",) for i in (1, 2)]
    assert count_notes(names) == ["2 clips: words: talk*.srt"]
    assert count_notes(notes[:1], most=1) == ["1 clip: the sound starts at 0.50 s"]
    jumps = [f"the time stamps jump at {i} s" for i in (3, 7, 9)]
    assert merge_notes([*jumps, quiet, quiet]) == (
        "the time stamps jump at 3 s (the first of 3 notes of this kind)",
        quiet,
    )
    assert counted(1, "segment") == "1 segment" and counted(1200, "file") == "1,200 files"


def test_a_clip_is_found_in_another_spelling_of_its_name(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Gespräch")
    (tmp_path / decomposed).mkdir()
    file = tmp_path / decomposed / unicodedata.normalize("NFD", "café.AVI")
    file.touch()
    (tmp_path / "one.wav").touch()
    (tmp_path / "one.mov").touch()
    index = FileIndex(tmp_path)
    assert index.media([tmp_path], ["Gespräch/café.avi"]) == str(file)
    assert index.media([tmp_path], ["Gespräch/café"]) == str(file)
    assert index.media([tmp_path], ["one"]) == str(tmp_path / "one.mov")
    assert index.media([tmp_path], ["two"]) == str(tmp_path / "two.mp4")


def test_a_large_file_is_not_read_into_memory(tmp_path, monkeypatch):
    file = tmp_path / "a.mp4"
    write_mp4(file, [np.full((48, 64, 3), 60 * i, np.uint8) for i in range(3)], None, 12)
    usual = read_clip(file)
    monkeypatch.setattr(clip, "IN_MEMORY", 100)
    large = read_clip(file)
    assert np.array_equal(large.frames, usual.frames) and large.notes == usual.notes


def test_channels_that_cancel_are_heard():
    t = np.arange(1600) / 16_000
    left = np.sin(2 * np.pi * 200 * t)
    mean, opposite = mix_channels(np.stack([left, 0.5 * left]))
    assert not opposite and np.allclose(mean, 0.75 * left)
    alone = np.stack([left, *np.zeros((7, 1600))])  # one of eight channels
    assert not mix_channels(alone)[1]
    assert not mix_channels(np.zeros((2, 1600)))[1] and not mix_channels(left[None])[1]
    mixed, opposite = mix_channels(np.stack([0.9 * left, -left]))
    assert opposite and np.array_equal(mixed, -left)


def test_a_name_with_a_colon_is_a_file_and_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mp4(tmp_path / "12:30 talk.mp4", [np.zeros((48, 64, 3), np.uint8)] * 3, None, 12)
    assert recording_seconds("12:30 talk.mp4") > 0


@pytest.mark.parametrize(
    ("name", "form"), [("a.jpg", "JPEG"), ("b.PNG", "JPEG"), ("c.jpeg", "PNG")]
)
def test_pictures_are_read_by_their_content(tmp_path, name, form):
    """FFmpeg takes .jpg and .png for the names of numbered sequences."""
    colours = np.full((48, 64, 3), (200, 40, 90), np.uint8)
    Image.fromarray(colours).save(tmp_path / name, form)
    read = read_clip(str(tmp_path / name), sampling=Sampling(image="middle"))
    assert np.abs(read.image.astype(int) - colours).max() < 8
