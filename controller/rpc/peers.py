"""Where the other nodes' controller listeners are."""

from collections.abc import Iterator, Mapping

Address = tuple[str, int]


class PeerAddresses:
    """Node id to (host, port). Seeded from `controller.quorum.voters`, and then told by every set of voters; another
    node (a learner) is added when it introduces itself. Voters' addresses cannot be talked over.
    """

    def __init__(self, voters: Mapping[int, Address], *, limit: int = 1024) -> None:
        self._fixed = dict(voters)
        self._learned: dict[int, Address] = {}
        self._limit = limit

    def get(self, node_id: int) -> Address | None:
        return self._fixed.get(node_id) or self._learned.get(node_id)

    def set_voters(self, voters: Mapping[int, Address]) -> None:
        """These vote now. Who does no longer is still found where it was, until it says otherwise."""
        for node_id, address in self._fixed.items():
            if node_id not in voters and len(self._learned) < self._limit:
                self._learned[node_id] = address
        self._fixed = dict(voters)

    def learn(self, node_id: int, address: Address) -> bool:
        """Remember where a non-voter listens. False when nothing changed or the table is full."""
        if node_id in self._fixed or self._learned.get(node_id) == address:
            return False
        if node_id not in self._learned and len(self._learned) >= self._limit:
            return False
        self._learned[node_id] = address
        return True

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._fixed or node_id in self._learned

    def __iter__(self) -> Iterator[int]:
        yield from self._fixed
        yield from self._learned
