"""Services to make tables of."""

from __future__ import annotations

from hypothesis import strategies as st

from pdinfra.ranktable.topology import Card, Server, Topology

A, B = "10.0.0.18", "10.0.0.19"


def server(address: str, devices: str, base: str) -> Server:
    """Return an instance; a device's address is ``base`` and its id."""
    return Server(address, tuple(Card(int(each), f"{base}{each}") for each in devices))


GUIDE = Topology(
    (Server(A, (Card(4, "29.81.3.22"), Card(5, "29.81.3.23"))),),
    (Server(A, (Card(6, "29.81.3.56"), Card(7, "29.81.3.72"))),),
    A,
)
"""The guide's 1p1d-tp2."""

TWO = Topology(
    (server(A, "01", "29.81.3.1"), server(A, "23", "29.81.3.1")),
    (server(A, "45", "29.81.3.1"), server(A, "67", "29.81.3.1")),
    A,
)
"""The guide's 2p2d-tp2 on one host."""

HOSTS = Topology(
    (server(A, "01", "29.81.3.1"), server(B, "01", "29.81.4.1")),
    (server(A, "23", "29.81.3.1"), server(B, "23", "29.81.4.1")),
    A,
)
"""Two hosts with one prefill and one decode instance each."""


@st.composite
def topologies(draw: st.DrawFn, pods: bool = False) -> Topology:
    """Draw services of one to four hosts, instances in the order of their hosts."""
    size = {role: draw(st.sampled_from([1, 2, 4])) for role in ("prefill", "decode")}
    found: dict[str, list[Server]] = {"prefill": [], "decode": []}
    hosts = draw(st.integers(1, 4))
    for host in range(hosts):
        free = draw(st.permutations(range(8)))
        for role in ("prefill", "decode"):
            # Every service has one of each; further hosts may have none of a role.
            for _ in range(draw(st.integers(0 if host else 1, 2))):
                mine, free = free[: size[role]], free[size[role] :]
                if len(mine) < size[role]:
                    break
                cards = tuple(
                    Card(
                        each,
                        f"29.81.{host}.{each + 1}",
                        str(host * 65536 + each) if pods else None,
                        "0" if pods else None,
                    )
                    for each in mine
                )
                found[role].append(Server(f"10.0.0.{host + 1}", cards))
    if not found["decode"]:
        cards = tuple(
            Card(
                each,
                f"29.82.9.{each + 1}",
                str(9 * 65536 + each) if pods else None,
                "0" if pods else None,
            )
            for each in range(size["decode"])
        )
        found["decode"] = [Server("10.0.0.9", cards)]
    used = [each.address for each in (*found["prefill"], *found["decode"])]
    return Topology(tuple(found["prefill"]), tuple(found["decode"]), draw(st.sampled_from(used)))
