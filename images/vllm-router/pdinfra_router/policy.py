"""Which member gets the next request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pdinfra_router.seats import Seat

Policy = Callable[[Sequence[Seat]], Seat]


class RoundRobin:
    """One after the other: the one whose last turn is longest ago."""

    def __init__(self) -> None:
        """Start with the first of the file."""
        self._turns = 0
        self._last: dict[str, int] = {}

    def __call__(self, seats: Sequence[Seat]) -> Seat:
        """Choose of at least one."""
        chosen = min(seats, key=lambda seat: self._last.get(seat.member.id, 0))
        self._turns += 1
        self._last[chosen.member.id] = self._turns
        return chosen


class LeastBusy(RoundRobin):
    """The one with the fewest requests in hand; of equals the one whose turn it is."""

    def __call__(self, seats: Sequence[Seat]) -> Seat:
        """Choose of at least one."""
        fewest = min(seat.busy for seat in seats)
        return super().__call__([seat for seat in seats if seat.busy == fewest])


POLICIES: dict[str, Callable[[], Policy]] = {"round_robin": RoundRobin, "least_busy": LeastBusy}
