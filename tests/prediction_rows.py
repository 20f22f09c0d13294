"""Predictions files for tests."""

import json


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def row(clip, answer="happy", response="happy", **more):
    return {"video_id": clip, "mode": "test", "answer": answer, "response": response, **more}
