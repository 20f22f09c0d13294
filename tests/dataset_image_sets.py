"""Small folders of the general image data sets."""

from __future__ import annotations

import json

from dataset_layouts import Fixture, one_file, pickled

REF = {
    "ref_id": 7,
    "ann_id": 3,
    "image_id": 581857,
    "category_id": 1,
    "split": "train",
    "sent_ids": [0, 1],
    "file_name": "COCO_train2014_000000581857_16.jpg",
    "sentences": [
        {"raw": "THE LADY", "sent": "the lady", "sent_id": 0, "tokens": ["the", "lady"]},
        {"raw": "woman in blue", "sent": "woman in blue", "sent_id": 1, "tokens": ["woman"]},
    ],
}
INSTANCES = json.dumps(
    {
        "images": [
            {
                "id": 581857,
                "width": 640,
                "height": 480,
                "file_name": "COCO_train2014_000000581857.jpg",
            }
        ],
        "annotations": [
            {"id": 3, "image_id": 581857, "category_id": 1, "bbox": [64.0, 48.0, 320.0, 240.0]}
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
)
PICTURE = "train2014/COCO_train2014_000000581857.jpg"
VQA = [
    {
        "question_id": 5,
        "question": "What sport?",
        "answer": ["race", "race", "ride"],
        "dataset": "vqa",
        "image": "val2014/COCO_val2014_000000297147.jpg",
    }
]
AOK = [
    {
        "question_id": "22jb",
        "question": "What is it?",
        "direct_answers": ["cigarette"] * 9 + ["smoke"],
        "choices": ["a"],
        "image": "train2014/COCO_train2014_000000461751.jpg",
        "split": "train",
        "image_id": 461751,
    }
]


def refer(name: str, folder: str, pickle_name: str) -> Fixture:
    return Fixture(
        name=name,
        files={
            f"{folder}/{pickle_name}": pickled([REF, {**REF, "ref_id": 8, "split": "testA"}]),
            f"{folder}/instances.json": INSTANCES,
        },
        clip=f"{folder}/{PICTURE}",
        first=("7", "train", ""),
        malformed=('"id": 3', '"id": 4', "annotation 3 of image 581857 is not in instances.json"),
    )


def vqa(name: str, path: str, rows: list[dict], malformed: tuple[str, str, str]) -> Fixture:
    return one_file(
        name,
        path,
        json.dumps(rows),
        clip=f"{path.partition('/')[0]}/{rows[0]['image']}",
        first=(str(rows[0]["question_id"]), "train", ""),
        malformed=malformed,
    )


IMAGE_SETS = (
    one_file(
        "coco_caption",
        "COCO/coco_karpathy_train.json",
        json.dumps(
            [
                {"caption": "A woman eats.", "image": PICTURE, "image_id": "coco_581857"},
                {
                    "caption": "A man.",
                    "image": "val2014/COCO_val2014_000000000001.jpg",
                    "image_id": "coco_1",
                },
            ]
        ),
        clip=f"COCO/{PICTURE}",
        first=("COCO_train2014_000000581857#1", "train", ""),
        malformed=(
            '"caption": "A woman eats."',
            '"title": "A woman eats."',
            "row 1, column 'caption': is missing",
        ),
    ),
    refer("refcoco", "refcoco", "refs(unc).p"),
    refer("refcocop", "refcoco+", "refs(unc).p"),
    refer("refcocog", "refcocog", "refs(umd).p"),
    vqa(
        "coco_vqa",
        "vqav2/vqa_train.json",
        VQA,
        (
            '["race", "race", "ride"]',
            "[]",
            "row 1, column 'answer': is '[]', needs one or more answers",
        ),
    ),
    vqa(
        "ok_vqa",
        "okvqa/okvqa_train.json",
        VQA,
        ('"What sport?"', '""', "row 1, column 'question': is empty"),
    ),
    vqa(
        "aok_vqa",
        "aokvqa/aokvqa_v1p0_train.json",
        AOK,
        ("direct_answers", "answers", "row 1, column 'direct_answers': is missing"),
    ),
    one_file(
        "gqa",
        "gqa/train_balanced_questions.json",
        json.dumps(
            {
                "0712": {
                    "imageId": "n161",
                    "question": "Is it red?",
                    "answer": "yes",
                    "fullAnswer": "Yes, it is.",
                }
            }
        ),
        clip="gqa/images/n161.jpg",
        first=("0712", "train", ""),
        malformed=('"answer": "yes"', '"answer": 3', "row 1, column 'answer'"),
    ),
)
