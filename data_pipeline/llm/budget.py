"""Spending limits for chat endpoints.

Every request is reserved at its maximum cost before it is sent and settled at its actual cost when
the reply is in. The ledger is an append-only file with two lines per request, which several
processes may share. Reservations of a process that was killed are never settled and keep counting
at their maximum.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_pipeline.io import wait_for_lock


class BudgetReached(Exception):
    """The next request might exceed the budget; it was not sent."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Total cost of all requests in a ledger.

    Attributes:
      money: cost at the endpoints' prices, 0 where prices are unknown.
      tokens_in: prompt tokens.
      tokens_out: reply tokens.
      requests: answered requests.
      lost: requests that were reserved but never settled; they count at their maximum.
      uncounted: answered requests that count at their maximum, because the server reported no
        tokens.
    """

    money: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 0
    lost: int = 0
    uncounted: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and reply tokens together."""
        return self.tokens_in + self.tokens_out


class Ledger:
    """Records the requests of an output folder, those of earlier runs included."""

    def __init__(
        self, path: Path, *, max_money: float | None = None, max_tokens: int | None = None
    ):
        """Opens or creates a ledger file.

        Args:
          path: the file; a lock file `NAME.lock` is created next to it.
          max_money: limit of the cost, None for no limit.
          max_tokens: limit of prompt and reply tokens, None for no limit.
        """
        self.path, self.max_money, self.max_tokens = path, max_money, max_tokens
        path.parent.mkdir(parents=True, exist_ok=True)
        self._mutex = threading.Lock()  # threads of one process need not poll the file lock
        self._offset = 0  # bytes of the file that have been read
        self._local: set[str] = set()  # tickets of requests in flight in this process
        self._settled = threading.Condition()
        self._reserved: dict[str, tuple[float, int, int]] = {}
        self._money, self._tokens_in, self._tokens_out, self._requests = 0.0, 0, 0, 0
        self._uncounted = 0
        with self._locked() as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # an incomplete line, which is then ignored
                    file.write(b"\n")

    def spending(self) -> Spending:
        """Returns the spending so far; unsettled requests count at their maximum."""
        with self._locked() as file:
            self._read_new_lines(file)
        return self._total()

    def reserve(
        self,
        money: float,
        tokens_in: int,
        tokens_out: int,
        *,
        wait: Callable[[], bool] = lambda: False,
    ) -> str:
        """Reserves budget for a request.

        Args:
          money: maximum cost of the request.
          tokens_in: maximum number of prompt tokens.
          tokens_out: maximum number of reply tokens.
          wait: if the budget is exhausted only because of requests in flight in this process, their
            end is awaited as long as this returns true.

        Returns:
          The ticket to settle the request with.

        Raises:
          BudgetReached: the request might exceed the budget.
        """
        while True:
            try:
                ticket = self._try_reserve(money, tokens_in, tokens_out)
            except BudgetReached:
                with self._settled:
                    if not self._local or not wait():
                        raise
                    self._settled.wait(1.0)
            else:
                with self._settled:
                    self._local.add(ticket)
                return ticket

    def wake_waiters(self) -> None:
        """Makes waiting `reserve` calls evaluate their `wait` argument again."""
        with self._settled:
            self._settled.notify_all()

    def abandon(self, ticket: str) -> None:
        """Ends a request of unknown cost: its reservation keeps counting."""
        with self._settled:
            self._local.discard(ticket)
            self._settled.notify_all()

    def settle(
        self, ticket: str, money: float, tokens_in: int, tokens_out: int, *, answered: bool = True
    ) -> None:
        """Replaces a reservation by the actual cost of the request.

        Args:
          ticket: what `reserve` returned.
          money: actual cost; 0 if the request was refused.
          tokens_in: prompt tokens.
          tokens_out: reply tokens.
          answered: whether the request counts as answered.
        """
        self._settle(ticket, {"cost": [money, tokens_in, tokens_out], "ok": answered})

    def settle_at_maximum(self, ticket: str) -> None:
        """Settles an answered request whose tokens the server did not count at its reservation."""
        self._settle(ticket, {"most_counts": True})

    def _settle(self, ticket: str, entry: dict[str, object]) -> None:
        with self._locked() as file:
            self._append(file, {"t": ticket, **entry})
        self.abandon(ticket)

    def _try_reserve(self, money: float, tokens_in: int, tokens_out: int) -> str:
        with self._locked() as file:
            self._read_new_lines(file)
            total = self._total()
            if self.max_money is not None and total.money + money > self.max_money + 1e-12:
                raise BudgetReached(
                    f"{total.money:.4f} of {self.max_money:g} are spent or reserved, "
                    f"the next request may cost {money:.4f}"
                )
            needed = tokens_in + tokens_out
            if self.max_tokens is not None and total.tokens + needed > self.max_tokens:
                raise BudgetReached(
                    f"{total.tokens:,} of {self.max_tokens:,} tokens are spent or reserved, "
                    f"the next request may take {needed:,}"
                )
            ticket = secrets.token_hex(6)
            self._append(file, {"t": ticket, "most": [money, tokens_in, tokens_out]})
        return ticket

    def _total(self) -> Spending:
        reserved = list(self._reserved.values())
        return Spending(
            money=self._money + sum(r[0] for r in reserved),
            tokens_in=self._tokens_in + sum(r[1] for r in reserved),
            tokens_out=self._tokens_out + sum(r[2] for r in reserved),
            requests=self._requests,
            lost=len(reserved),
            uncounted=self._uncounted,
        )

    def _read_new_lines(self, file: BinaryIO) -> None:
        """Reads what this and other processes have written since the last call."""
        file.seek(self._offset)
        for line in file.read().split(b"\n")[:-1]:
            self._offset += len(line) + 1
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "most" in entry:
                self._reserved[entry["t"]] = tuple(entry["most"])
                continue
            reserved = self._reserved.pop(entry["t"], (0.0, 0, 0))
            is_counted = "most_counts" not in entry
            money, tokens_in, tokens_out = entry["cost"] if is_counted else reserved
            self._money += money
            self._tokens_in += tokens_in
            self._tokens_out += tokens_out
            self._requests += entry.get("ok", True)
            self._uncounted += not is_counted

    def _append(self, file: BinaryIO, entry: dict[str, object]) -> None:
        file.seek(0, os.SEEK_END)
        file.write(json.dumps(entry).encode() + b"\n")
        file.flush()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        with (
            self._mutex,
            wait_for_lock(self.path.with_name(f"{self.path.name}.lock")),
            self.path.open("a+b") as file,
        ):
            yield file
