#!/usr/bin/env python3
"""A stand-in for gcloud: records every call and answers like a cloud whose state is a folder.

$FAKE/state         state of the slice; absent if there is none
$FAKE/calls.jsonl   arguments of every call
$FAKE/script        JSON list, one entry per start of a training:
                    {"code": exit code, "then": state of the slice afterwards}
$FAKE/install       JSON list, exit codes of the installations, one each
$FAKE/no_quota      if there, no slice can be created
"""

import fcntl
import json
import os
import sys
from pathlib import Path

home = Path(os.environ["FAKE"])
state, calls, script = home / "state", home / "calls.jsonl", home / "script"
args = sys.argv[1:]
with calls.open("a") as file:
    file.write(json.dumps(args) + "\n")
verb = args[3] if len(args) > 3 else ""
if "describe" in args:
    if not state.exists():
        print("NOT_FOUND", file=sys.stderr)
        sys.exit(1)
    print("ACTIVE" if "queued-resources" in args else state.read_text())
elif verb == "create":
    if state.exists() or (home / "no_quota").exists():
        print("ALREADY_EXISTS" if state.exists() else "QUOTA_EXCEEDED", file=sys.stderr)
        sys.exit(1)
    state.write_text("READY")
elif verb == "delete":
    state.unlink(missing_ok=True)
elif verb == "scp":
    assert Path(args[4]).stat().st_size > 1000, "the archive is there"
elif verb == "ssh" and (home / "install").exists() and not any("emojax.train" in a for a in args):
    codes = json.loads((home / "install").read_text())
    (home / "install").write_text(json.dumps(codes[1:]))
    sys.exit(codes[0] if codes else 0)
elif verb == "ssh" and any("emojax.train" in a for a in args):
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the slices of a pod start at the same time
        todo = json.loads(script.read_text()) if script.exists() else []
        now = todo.pop(0) if todo else {"code": 0}
        script.write_text(json.dumps(todo))
    print("step 1  loss 1.0")
    if now.get("then") == "gone":
        state.unlink(missing_ok=True)
    elif "then" in now:
        state.write_text(now["then"])
    sys.exit(now["code"])
