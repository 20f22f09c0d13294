"""The face nets with their released weights, on real recordings.

They are compared with their own JavaScript, run by Node.js; where that cannot be had, with torch
modules written from their description.
"""

import base64
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

from data_pipeline.io import cache_root
from data_pipeline.media.clip import Sampling, read_clip
from data_pipeline.media.face_crops import cut, resize_square
from data_pipeline.media.presence import is_blank
from emojax.infer.face_detector import LARGE_SIZE, TinyFaceDetector, find_face_crops
from emojax.model.encoders.face_api import FAMILY, FaceNetConfig, make_net
from emojax.weights.face_nets import load_face_net
from emojax.weights.tensor_files import open_tensors

pytestmark = pytest.mark.real

PACKAGE = "@vladmandic/face-api@1.7.15"
FOUND = 0.97  # of the frames that show something; 0.990 was measured


@pytest.fixture(scope="module")
def manifests(real_part):
    """{net: its manifest}, as `emojax fetch` stores it."""
    found = {}
    for release in FAMILY.releases:
        files = [real_part(release.name) / Path(f.file).name for f in release.mirror.files]
        assert sum(f.stat().st_size for f in files) == release.size
        found[release.fields["net"]] = files[0]
    return found


@pytest.fixture(scope="module")
def package():
    """The unpacked package with its JavaScript; None where that cannot be had or run."""
    kept = Path(os.environ.get("EMOJAX_REAL_WEIGHTS") or cache_root()) / "packages"
    folder = kept / "face-api-1.7.15"
    if not (shutil.which("npm") and shutil.which("node")):
        return None
    if not folder.is_dir():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as temporary:
            command = ["npm", "pack", PACKAGE, "--ignore-scripts", "--silent"]
            if subprocess.run(command, cwd=temporary, capture_output=True).returncode:
                return None
            (archive,) = Path(temporary).glob("*.tgz")
            with tarfile.open(archive) as files:
                files.extractall(temporary, filter="data")
            (Path(temporary) / "package").rename(folder)
    return folder


@pytest.fixture(scope="module")
def detector(manifests):
    return TinyFaceDetector(manifests["detector"])


@pytest.fixture(scope="module")
def frames(real_data):
    """Frames of real people; upright, wide and of odd sizes."""
    paths = sorted((real_data / "java_sed" / "video").glob("*.mp4"))[::45]
    whole = [read_clip(p, sampling=Sampling(num_frames=16)).frames[8] for p in paths]
    return [*whole, np.ascontiguousarray(whole[0][:, 100:233]), whole[1][:201]]


def of_javascript(package, folder, pictures):
    """{net: one {output: array} per picture}, as face-api computes them."""
    wanted = {
        net: [{"shape": p.shape, "data": base64.b64encode(p.tobytes()).decode()} for p in given]
        for net, given in pictures.items()
    }
    (folder / "input.json").write_text(json.dumps(wanted))
    script = Path(__file__).parent / "face_api.mjs"
    command = ["node", str(script), str(package), "input.json", "output.json"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)

    def array(value):
        return np.frombuffer(base64.b64decode(value["data"]), "<f4").reshape(value["shape"])

    return {
        net: [{name: array(v) for name, v in outputs.items()} for outputs in results]
        for net, results in json.loads((folder / "output.json").read_text()).items()
    }


def of_torch(manifests, pictures):
    """The same by torch, without boxes and resized pictures."""
    pytest.importorskip("torch")
    from torch_face_nets import TorchNet

    nets = {
        net: TorchNet({n: read() for n, read in open_tensors(manifest).items()})
        for net, manifest in manifests.items()
    }
    results = {net: [] for net in nets}
    for p in pictures["detector"]:
        raw = nets["detector"].detector(resize_square(p[None], 224, centred=False))
        results["detector"].append({"raw": raw.numpy()})
    for p in pictures["expression"]:
        features, scores = nets["expression"].crops(resize_square(p[None], 112, centred=True))
        probabilities = scores.softmax(-1).numpy()
        results["expression"].append({"features": features.numpy(), "probabilities": probabilities})
    for p in pictures["landmarks"]:
        results["landmarks"].append({"points": nets["landmarks"].crops(p[None])[1].numpy()})
    return results


def test_the_nets_compute_what_their_own_code_computes(
    package, manifests, detector, frames, tmp_path
):
    crops = [cut(f, detector(f[None])[0][0]) for f in frames]
    squares = [resize_square(c[None], 112, centred=True)[0].astype(np.uint8) for c in crops]
    pictures = {"detector": frames, "expression": crops, "landmarks": squares}
    theirs = (
        of_javascript(package, tmp_path, pictures) if package else of_torch(manifests, pictures)
    )

    def run(net, method, pixels):
        config = FaceNetConfig(net=net)
        variables = load_face_net(config, manifests[net])
        module = make_net(config)
        apply = jax.jit(lambda v, x: module.apply(v, x, method=method))
        return [apply(variables, x) for x in pixels]

    def equal(ours, reference, atol=1e-4):
        np.testing.assert_allclose(np.asarray(ours).reshape(reference.shape), reference, atol=atol)

    searched = [resize_square(f[None], 224, centred=False) for f in frames]
    read = [resize_square(c[None], 112, centred=True) for c in crops]
    for i, raw in enumerate(run("detector", "__call__", searched)):
        equal(raw, theirs["detector"][i]["raw"])
    for i, expression in enumerate(run("expression", "read", read)):
        equal(expression.features, theirs["expression"][i]["features"])
        equal(expression.probabilities, theirs["expression"][i]["probabilities"])
    for i, points in enumerate(run("landmarks", "__call__", [s[None] for s in squares])):
        equal(points, theirs["landmarks"][i]["points"])
    if package:
        for i, frame in enumerate(frames):
            equal(searched[i], theirs["detector"][i]["resized"])
            equal(read[i], theirs["expression"][i]["resized"])
            equal(detector(frame[None])[0], theirs["detector"][i]["boxes"], atol=1e-3)


def test_faces_of_real_recordings_are_found(detector, real_data):
    """One per frame, in at least 97 % of the frames that show something.

    Most recordings of the set begin with black pictures, 3 % of all frames.
    """
    shown = found = 0
    for path in sorted((real_data / "java_sed" / "video").glob("*.mp4")):
        frames = read_clip(path, sampling=Sampling(num_frames=6)).frames
        frames = frames[[not is_blank(f[None]) for f in frames]]
        faces = find_face_crops(detector, frames)
        shown, found = shown + len(frames), found + int(faces.found.sum())
        sides = faces.boxes[faces.found, 2:] - faces.boxes[faces.found, :2]
        assert ((sides > 60) & (sides < 260)).all(), path.name
    assert shown > 1000
    assert found >= FOUND * shown


def test_several_people_are_found_in_a_larger_picture(manifests, frames):
    """Four people in one picture, each face a ninth of its longer side."""
    half = [f[::2, ::2] for f in frames[:4]]
    four = np.concatenate([np.concatenate(half[:2], 1), np.concatenate(half[2:], 1)])
    large = TinyFaceDetector(manifests["detector"], size=LARGE_SIZE)
    (boxes,) = large(four[None])
    middles = {((x0 + x1) // 2 >= 180, (y0 + y1) // 2 >= 135) for x0, y0, x1, y1 in boxes}
    assert len(boxes) == len(middles) == 4
