"""What may be spent on endpoints: every request is reserved at the most it can cost before it is sent, and settled when it has come back.

The ledger is a file of two lines a request; a process that is killed leaves requests reserved, and these count as spent. Several
processes may share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BudgetReached(Exception):
    """The next request could cost more than is left; nothing was sent."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """money (None where prices are not known), tokens of prompts and replies; requests that were answered; of which lost: never settled."""

    money: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 0
    lost: int = 0

    @property
    def tokens(self) -> int:
        """Of both kinds."""
        return self.tokens_in + self.tokens_out


class Ledger:
    """Requests of one output folder, of this run and those before.

    Args of `__init__`: path, most_money, most_tokens (None: no limit).
    """

    def __init__(
        self, path: Path, *, most_money: float | None = None, most_tokens: int | None = None
    ):
        self.path, self.most_money, self.most_tokens = path, most_money, most_tokens
        path.parent.mkdir(parents=True, exist_ok=True)
        self._read = 0
        self._here: set[str] = set()  # tickets of requests that are under way in this process
        self._ended = threading.Condition()
        self._open: dict[str, tuple[float, int, int]] = {}
        self._money, self._in, self._out, self._done = 0.0, 0, 0, 0
        with self._locked() as file:
            size = file.seek(0, os.SEEK_END)
            if size and (file.seek(size - 1) or True) and file.read(1) != b"\n":
                file.write(
                    b"\n"
                )  # a line that was torn: it counts for nothing, what it settles stays reserved

    def spent(self) -> Spent:
        """So far, requests under way and lost ones at their most."""
        with self._locked() as file:
            self._catch_up(file)
        return self._spent()

    def reserve(
        self,
        money: float,
        tokens_in: int,
        tokens_out: int,
        *,
        wait: Callable[[], bool] = lambda: False,
    ) -> str:
        """A request that may cost so much; returns its ticket. Where only what is under way here stands in its way, it waits
        for that to end, as long as `wait` says so.

        Raises:
          BudgetReached: it could go over the budget.
        """
        while True:
            try:
                ticket = self._reserve(money, tokens_in, tokens_out)
            except BudgetReached:
                with self._ended:
                    if not self._here or not wait():
                        raise
                    self._ended.wait(1.0)
            else:
                with self._ended:
                    self._here.add(ticket)
                return ticket

    def wake(self) -> None:
        """Those that wait look again."""
        with self._ended:
            self._ended.notify_all()

    def lost(self, ticket: str) -> None:
        """A request has ended and nobody knows what it cost: it stays reserved."""
        with self._ended:
            self._here.discard(ticket)
            self._ended.notify_all()

    def _reserve(self, money: float, tokens_in: int, tokens_out: int) -> str:
        with self._locked() as file:
            self._catch_up(file)
            now = self._spent()
            if self.most_money is not None and now.money + money > self.most_money + 1e-12:
                raise BudgetReached(
                    f"{now.money:.4f} of {self.most_money:g} are spent or reserved, the next request may cost {money:.4f}"
                )
            if (
                self.most_tokens is not None
                and now.tokens + tokens_in + tokens_out > self.most_tokens
            ):
                raise BudgetReached(
                    f"{now.tokens:,} of {self.most_tokens:,} tokens are spent or reserved, the next request may take {tokens_in + tokens_out:,}"
                )
            ticket = secrets.token_hex(6)
            self._write(file, {"t": ticket, "most": [money, tokens_in, tokens_out]})
        return ticket

    def settle(
        self, ticket: str, money: float, tokens_in: int, tokens_out: int, *, answered: bool = True
    ) -> None:
        """What the request of a ticket cost in the end; 0 where it was refused."""
        with self._locked() as file:
            self._write(file, {"t": ticket, "cost": [money, tokens_in, tokens_out], "ok": answered})
        self.lost(ticket)

    def _spent(self) -> Spent:
        held = list(self._open.values())
        return Spent(
            money=self._money + sum(h[0] for h in held),
            tokens_in=self._in + sum(h[1] for h in held),
            tokens_out=self._out + sum(h[2] for h in held),
            requests=self._done,
            lost=len(held),
        )

    def _catch_up(self, file: Any) -> None:
        """Reads what this and other processes wrote since the last look."""
        file.seek(self._read)
        for line in file.read().split(b"\n")[:-1]:
            self._read += len(line) + 1
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if "most" in found:
                self._open[found["t"]] = tuple(found["most"])
            else:
                self._open.pop(found["t"], None)
                self._money += found["cost"][0]
                self._in += found["cost"][1]
                self._out += found["cost"][2]
                self._done += found["ok"]

    def _write(self, file: Any, line: dict[str, object]) -> None:
        file.seek(0, os.SEEK_END)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Any]:
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
