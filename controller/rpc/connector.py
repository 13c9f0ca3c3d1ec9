"""How the aiohttp client dials: through the event loop's own calls, so that a simulated loop carries it too."""

import asyncio
import ipaddress
import socket

import aiohttp
from aiohttp.client_proto import ResponseHandler

# Addresses of one name that are tried, in the resolver's order.
_MAX_ADDRESSES = 8


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class LoopConnector(aiohttp.BaseConnector):
    """Dials with `loop.getaddrinfo` and `loop.create_connection`, one address after the other.

    Nothing is cached: a container that was restarted has a new address under its old name. Unlike
    `loop.create_connection` with a name, which merges the failures of several addresses into one OSError without an
    errno, this keeps them apart: ConnectionRefusedError is reported only if every address refused, for the watch
    takes that as evidence of a dead process. Raises aiohttp.ClientConnectorError (`os_error` tells which), its
    subclass ClientConnectorDNSError for a name that does not resolve, and TimeoutError.
    """

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: object, timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        host, port = req.url.raw_host, req.url.port
        if host is None or port is None:
            raise ValueError(f"no host and port in {req.url}")
        async with asyncio.timeout(timeout.sock_connect):
            failure: OSError | None = None
            try:
                addresses = await self._addresses(host, port)
            except socket.gaierror as error:
                raise aiohttp.ClientConnectorDNSError(req.connection_key, error) from error
            for address in addresses:
                try:
                    _, protocol = await self._loop.create_connection(self._factory, address, port)
                except OSError as error:
                    if failure is None or not isinstance(error, ConnectionRefusedError):
                        failure = error
                else:
                    return protocol
            assert failure is not None, "a resolver answered with no address and no error"
            raise aiohttp.ClientConnectorError(req.connection_key, failure) from failure

    async def _addresses(self, host: str, port: int) -> list[str]:
        if _is_address(host):
            return [host]
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:_MAX_ADDRESSES]
