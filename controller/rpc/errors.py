"""What can go wrong between two nodes, as the caller sees it."""


class RpcError(Exception):
    """A request to another node brought no usable answer."""


class PeerUnreachable(RpcError):
    """No connection, or it broke before the answer was complete. The request may or may not have been handled."""


class PeerHungUp(PeerUnreachable):
    """The connection stood and was then closed or reset by the other side."""


class PeerRefused(PeerUnreachable):
    """Every address of the peer refused the connection: no process listens there."""


class PeerUnresolvable(PeerUnreachable):
    """The peer's host name does not resolve."""


class PeerSilent(PeerUnreachable):
    """No answer within the deadline."""


class PeerRejected(RpcError):
    """The peer answered with a refusal: 401 wrong secret, 409 wrong cluster or node, 400 bad request, ...

    Also raised when an answer is not signed with the cluster's secret (`status` is then that of the answer).
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class ControllerUnavailable(RpcError):
    """No active controller answered before the deadline. `__cause__` holds the last failure, if there was one."""
