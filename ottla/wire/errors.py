"""What can go wrong with a peer."""


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow. The only answer is to close the connection."""


class ConnectionLost(ConnectionError):
    """The connection ended, or could not be made, before the answer came. The request may have been carried out."""


class RequestTimedOut(TimeoutError):
    """No answer within the caller's limit. The connection is closed, since answers come in order."""
