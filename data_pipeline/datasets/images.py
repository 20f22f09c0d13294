"""General image data sets of the mixture: captions, questions, boxes of referring expressions.

Each row has a question and its answers; an answer that occurs twice is drawn twice as often. Boxes
are written as `{<x1><y1><x2><y2>}` in hundredths of the picture's size, truncated to integers, as
MiniGPT-v2 was trained.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from data_pipeline.datasets.dataset import DataSet, Source
from data_pipeline.datasets.reading import RecordMaker
from data_pipeline.datasets.row_readers import json_rows, pickle_rows
from data_pipeline.datasets.rows import CellError, Row, RowExcluded
from data_pipeline.schema import ClipRecord


def _picture(row: Row, name: str) -> str:
    """Finds a picture below the data set's folder or in a COCO folder next to it."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    folders = (
        "images",
        "train2014",
        "val2014",
        "image",
        "../coco",
        "../coco/images",
        "../coco/train2014",
    )
    return row.media(name, *(f"{folder}/{base}" for folder in folders), base)


def _record(
    dataset: str, clip: str, *, picture: str, question: str, answers: tuple[str, ...]
) -> ClipRecord:
    return ClipRecord(
        id=clip,
        dataset=dataset,
        split="train",
        path=picture,
        label="",
        labels=(),
        mode="train",
        question=question,
        answers=answers,
        provenance={"answers": "human"},
    )


def _caption(row: Row) -> ClipRecord:
    image = row.required("image")
    if "train" not in image:  # as the released code, which uses only pictures of train2014
        raise RowExcluded("picture of another split")
    caption = row.required("caption")
    # A picture has several captions, each in its own row.
    return _record(
        "coco_caption",
        f"{Path(image).stem}#{row.number}",
        picture=_picture(row, image),
        question="",
        answers=(caption,),
    )


def _answers(row: Row, column: str) -> tuple[str, ...]:
    value = row.cells[column]
    if isinstance(value, str):
        value = [value]
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(a, str) and a.strip() for a in value)
    ):
        raise CellError(column, f"is {str(value)[:80]!r}, needs one or more answers")
    return tuple(" ".join(a.split()) for a in value)


def _vqa(dataset: str, answers: str) -> RecordMaker:
    """Makes records of LAVIS' files: image, question, question_id and a list of answers."""

    def make(row: Row) -> ClipRecord:
        question, image = row.required("question"), row.required("image")
        question_id = row.optional("question_id", default=str(row.number))
        return _record(
            dataset,
            question_id,
            picture=_picture(row, image),
            question=question,
            answers=_answers(row, answers),
        )

    return make


def _gqa(row: Row) -> ClipRecord:
    """A row of LAVIS' list, or of the data set's own object keyed by question id."""
    image = row.text("image") if "image" in row.cells else f"images/{row.required('imageId')}.jpg"
    question_id = row.key or row.optional("question_id", default=str(row.number))
    return _record(
        "gqa",
        question_id,
        picture=_picture(row, image),
        question=row.required("question"),
        answers=_answers(row, "answer"),
    )


def box_text(box: tuple[float, float, float, float], width: float, height: float) -> str:
    """Writes a box as `{<x1><y1><x2><y2>}` in hundredths of the picture, truncated to integers.

    Args:
      box: (x, y, width, height) in pixels.
      width: of the picture, in pixels.
      height: of the picture, in pixels.
    """
    x, y, w, h = box
    corners = (x / width, y / height, (x + w) / width, (y + h) / height)
    return "{" + "".join(f"<{int(c * 100)}>" for c in corners) + "}"


@functools.lru_cache(maxsize=3)
def _instances(path: Path) -> tuple[dict[int, Any], dict[int, Any]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {a["id"]: a for a in data["annotations"]}, {i["id"]: i for i in data["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CellError(
            "ann_id", f"{path} is missing or damaged ({type(error).__name__}: {error})"
        ) from error


def _refer(dataset: str) -> RecordMaker:
    """Makes records of refs(unc).p or refs(umd).p; the boxes are in instances.json next to it.

    The file name of an entry is not the name of a picture.
    """

    def make(row: Row) -> ClipRecord:
        missing = [
            c for c in ("split", "ann_id", "image_id", "ref_id", "sentences") if c not in row.cells
        ]
        if missing:
            raise CellError(missing[0], "is missing")
        if row.cells["split"] != "train":
            raise RowExcluded(f"split '{row.cells['split']}'")
        boxes, images = _instances(row.file.parent / "instances.json")
        ann, image = row.cells["ann_id"], row.cells["image_id"]
        if ann not in boxes or image not in images:
            raise CellError("ann_id", f"annotation {ann} of image {image} is not in instances.json")
        size = images[image]
        phrases = [" ".join(str(s.get("raw", "")).split()) for s in row.cells["sentences"]]
        if not any(phrases):
            raise CellError("sentences", "contains no phrase")
        box = box_text(tuple(boxes[ann]["bbox"]), size["width"], size["height"])
        picture = _picture(row, f"train2014/COCO_train2014_{image:012d}.jpg")
        # One record per object, not per phrase: the phrase is drawn, as in the released code.
        return _record(
            dataset,
            str(row.cells["ref_id"]),
            picture=picture,
            question="\n".join(filter(None, phrases)),
            answers=(box,),
        )

    return make


def _refer_set(name: str, title: str, folder: str, pickle: str) -> DataSet:
    return DataSet(
        name=name,
        title=title,
        folders=(folder, name),
        sources=(Source(pattern=pickle, rows=pickle_rows, make=_refer(name)),),
        request=(
            "https://github.com/lichengunc/refer (open download); pictures: https://cocodataset.org"
        ),
        terms="no licence is named; pictures under Flickr's terms",
    )


_COCO = "pictures: https://cocodataset.org (open download)"
_LAVIS = "annotations: the files that LAVIS lists (open download); "
SETS = (
    DataSet(
        name="coco_caption",
        title="COCO caption",
        folders=("COCO", "coco_caption"),
        sources=(
            Source(
                pattern="coco_karpathy_train.json",
                rows=json_rows("image", "caption"),
                make=_caption,
                anywhere=True,
            ),
        ),
        request=_LAVIS + _COCO,
        terms="annotations CC BY 4.0; pictures under Flickr's terms",
    ),
    _refer_set("refcoco", "RefCOCO", "refcoco", "refs(unc).p"),
    _refer_set("refcocop", "RefCOCO+", "refcoco+", "refs(unc).p"),
    _refer_set("refcocog", "RefCOCOg", "refcocog", "refs(umd).p"),
    DataSet(
        name="coco_vqa",
        title="COCO-VQA",
        folders=("coco_vqa", "vqav2"),
        sources=tuple(
            Source(
                pattern=f,
                rows=json_rows("image", "question", "answer"),
                make=_vqa("coco_vqa", "answer"),
                anywhere=True,
            )
            for f in ("vqa_train.json", "vqa_val.json")  # the mixture trains on both
        ),
        request=_LAVIS + _COCO,
        terms="CC BY 4.0; pictures under Flickr's terms",
    ),
    DataSet(
        name="ok_vqa",
        title="OK-VQA",
        folders=("ok_vqa", "okvqa"),
        sources=(
            Source(
                pattern="okvqa_train.json",
                rows=json_rows("image", "question", "answer"),
                make=_vqa("ok_vqa", "answer"),
                anywhere=True,
            ),
        ),
        request=_LAVIS + _COCO,
        terms="no licence is named; pictures under Flickr's terms",
    ),
    DataSet(
        name="aok_vqa",
        title="A-OKVQA",
        folders=("aok_vqa", "aokvqa"),
        sources=(
            Source(
                pattern="aokvqa_v1p0_train.json",
                rows=json_rows("image", "question", "direct_answers"),
                make=_vqa("aok_vqa", "direct_answers"),
                anywhere=True,
            ),
        ),
        request=_LAVIS + _COCO,
        terms="Apache-2.0; pictures under Flickr's terms",
    ),
    DataSet(
        name="gqa",
        title="GQA",
        folders=("gqa",),
        sources=(
            Source(
                pattern="train_balanced_questions.json",
                rows=json_rows("question", "answer"),
                make=_gqa,
                anywhere=True,
            ),
        ),
        request="https://cs.stanford.edu/people/dorarad/gqa (open download)",
        terms="CC BY 4.0",
    ),
)
