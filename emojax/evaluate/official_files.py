"""The official files of MER-UniBench, published by Emotion-LLaMAv2: word tables and truths.

They are not part of this repository; `emojax fetch mer-unibench` downloads them.
"""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path

import numpy as np

from data_pipeline.io import cache_root, file_sha256
from data_pipeline.progress import Progress, no_progress
from emojax.weights.fetch import download
from emojax.weights.hub import FetchError

logger = logging.getLogger(__name__)

NAME = "mer-unibench"
COMMIT = "5f0a408b193e9b94f1cc53470de707de125fea40"
ADDRESS = f"https://raw.githubusercontent.com/ooochen-30/Emotion-LLaMA-v2/{COMMIT}/evaluation/"
_WORDS = "emotion_wheel/"
# File below the repository's `evaluation` folder -> SHA-256.
FILES: dict[str, str] = {
    "emotion_wheel/format.csv": "ba6de7d61db8e129d1d7ef8a2aae22a9e93a2c2e3e683e6f2735d04455f016f2",
    "emotion_wheel/synonym.xlsx": (
        "23f81f9ab1d2418aaf96775304fb5dc52c62bb5d5ef652a97471d045fc9d2e29"
    ),
    "emotion_wheel/wheel1.xlsx": "e70485d354b82a7491ff24648273182a5f4f13f92c76e6b3e4f9033f5e6afcc1",
    "emotion_wheel/wheel2.xlsx": "acc001e076a8e60440361f58dd8c05ed900c4890c84bb7d8d1df93708a7d9c87",
    "emotion_wheel/wheel3.xlsx": "d62f30bf88c17c55876634cd088eacaef98278fc25457474364439872f9dbf83",
    "emotion_wheel/wheel4.xlsx": "660260561b7fe15550f3679a01e7c783608ce3403d4c28db0a88520f68d83aea",
    "emotion_wheel/wheel5.xlsx": "2dd4595b2cf8e7628ca06a416a8e38ac831614b244f23d1ae613dc34007649f1",
    "hitrate_gt/gt_iemocap_Session5.npz": (
        "edd8fcd7a4498708d789378d649d911899c7e29edcb80acb6dd6e0b0f3fce0c5"
    ),
    "hitrate_gt/gt_meld_emotion_test.npz": (
        "bac75f8c1780a26b29f59dd1fc3fb4f500d72e6b6eed50fbb86dae6568bfa317"
    ),
    "hitrate_gt/gt_mer2023_test1.npz": (
        "a2a2fd1f250e3628b5659d58e48d342ebf1159baf7207cc8d90c037f9eb4cba0"
    ),
    "hitrate_gt/gt_mer2024_semi_other.npz": (
        "072104d1968f2aa7802601f26f694e7912ea85c28ee4f821ad38c21000f48b1c"
    ),
    "check-result-openset-chi-translate.csv": (
        "b2f8e84229caff5ed92cdc386a4b0243bf5850564d7f354e0edcc9b622418aa0"
    ),
}
TABLES = tuple(Path(name).name for name in FILES if name.startswith(_WORDS))
TRUTHS = {
    "mer2023": "hitrate_gt/gt_mer2023_test1.npz",
    "mer2024_semi": "hitrate_gt/gt_mer2024_semi_other.npz",
    "iemocap": "hitrate_gt/gt_iemocap_Session5.npz",
    "meld_emotion": "hitrate_gt/gt_meld_emotion_test.npz",
    "ov_merd+": "check-result-openset-chi-translate.csv",
}


def folder() -> Path:
    """The folder that `fetch` downloads to."""
    return cache_root() / NAME


def fetch(*, progress: Progress = no_progress) -> Path:
    """Downloads the missing files and checks every file.

    $EMOJAX_MER_UNIBENCH can name the address of a mirror, ending in a slash.

    Returns:
      The folder.

    Raises:
      FetchError: a file cannot be downloaded, or is not the official one (it is then deleted).
    """
    address = os.environ.get("EMOJAX_MER_UNIBENCH") or ADDRESS
    for name, expected in FILES.items():
        path = folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download(address + name, path, task=f"fetch {NAME}", progress=progress)
        except OSError as error:
            raise FetchError(
                f"{address}{name}: {error}; the same command resumes the download"
            ) from error
        if file_sha256(path) != expected:
            path.unlink()
            raise FetchError(
                f"{address}{name} is not the official file (its SHA-256 differs); it was deleted"
            )
    logger.info("word tables and truths of MER-UniBench: %s", folder())
    return folder()


def truth(name: str, *, root: Path | None = None) -> dict[str, str] | None:
    """The official truth of a set.

    Args:
      name: the set.
      root: folder of the files, None for the one that `fetch` downloads to.

    Returns:
      {clip: label or list of words}; None if the set has no official truth, or its file is absent.
    """
    path = (root or folder()) / TRUTHS.get(name, "-")
    if name not in TRUTHS or not path.is_file():
        return None
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return {row["name"]: row["openset"] for row in csv.DictReader(file)}
    with np.load(path, allow_pickle=False) as file:
        return {clip: str(file[clip]) for clip in file.files}
