"""The address lists of the configuration, as values. Pure."""

import re
from typing import NamedTuple

_LISTENER = re.compile(r"([A-Za-z][A-Za-z0-9_]*)://(\[[0-9a-fA-F:.%]+\]|[^:/\[\]]*):(\d{1,5})")
_VOTER = re.compile(r"(\d{1,10})@(\[[0-9a-fA-F:.%]+\]|[^:/\[\]@]+):(\d{1,5})")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^:/\[\]]*):(\d{1,5})")

WILDCARDS = frozenset({"", "0.0.0.0", "::"})


class Endpoint(NamedTuple):
    """`NAME://host:port`. An empty host means every interface; the name is upper case."""

    name: str
    host: str
    port: int


class Voter(NamedTuple):
    """`id@host:port` of a member of the controller quorum."""

    id: int
    host: str
    port: int


def split_list(text: str) -> list[str]:
    """The members of a comma-separated list without their surrounding blanks."""
    return [member.strip() for member in text.split(",")] if text.strip() else []


def _port(text: str) -> int:
    port = int(text)
    if port > 65535:
        raise ValueError(f"port {port} is above 65535")
    return port


def parse_listeners(text: str) -> tuple[Endpoint, ...]:
    """Raises ValueError for anything that is not `NAME://host:port,...` with distinct names."""
    found: dict[str, Endpoint] = {}
    for item in split_list(text):
        match = _LISTENER.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not NAME://host:port")
        name = match[1].upper()
        if name in found:
            raise ValueError(f"there are two listeners named {name}")
        found[name] = Endpoint(name, match[2].strip("[]"), _port(match[3]))
    return tuple(found.values())


def parse_voters(text: str) -> tuple[Voter, ...]:
    """Raises ValueError for anything that is not `id@host:port,...` with distinct ids and addresses."""
    voters: dict[int, Voter] = {}
    for item in split_list(text):
        match = _VOTER.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not id@host:port")
        voter = Voter(int(match[1]), match[2].strip("[]"), _port(match[3]))
        if voter.id in voters:
            raise ValueError(f"voter {voter.id} is there twice")
        if voter.host in WILDCARDS or voter.port == 0:
            raise ValueError(f"{item!r} is no address that another node can connect to")
        if any(voter[1:] == other[1:] for other in voters.values()):
            raise ValueError(f"two voters have the address {voter.host}:{voter.port}")
        voters[voter.id] = voter
    return tuple(voters.values())


def parse_address(text: str) -> tuple[str, int]:
    """`host:port`; the host may be empty. Raises ValueError."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not host:port")
    return match[1].strip("[]"), _port(match[2])


def parse_servers(text: str) -> tuple[tuple[str, int], ...]:
    """`host:port,...`. Raises ValueError for anything else, and for what nobody can connect to."""
    found = []
    for item in split_list(text):
        host, port = parse_address(item)
        if "@" in host:
            raise ValueError(f"{item!r} is not host:port; ids stand in controller.quorum.voters")
        if host in WILDCARDS or port == 0:
            raise ValueError(f"{item!r} is no address that another node can connect to")
        found.append((host, port))
    return tuple(dict.fromkeys(found))


def parse_protocol_map(text: str) -> dict[str, str]:
    """`NAME:PROTOCOL,...` with names and protocols in upper case. Raises ValueError."""
    protocols: dict[str, str] = {}
    for item in split_list(text):
        name, colon, protocol = (part.strip().upper() for part in item.partition(":"))
        if not (name and colon and protocol):
            raise ValueError(f"{item!r} is not NAME:PROTOCOL")
        if name in protocols:
            raise ValueError(f"listener {name} is there twice")
        protocols[name] = protocol
    return protocols


def parse_overrides(text: str) -> dict[str, int]:
    """Numbers of connections by address. Raises ValueError for anything that is not `ADDRESS:NUMBER,...`."""
    found = {}
    for item in split_list(text):
        address, _, number = item.rpartition(":")
        if not address or not (number.isascii() and number.isdigit()):
            raise ValueError(f"{item!r} is not ADDRESS:NUMBER")
        found[address.strip("[]")] = int(number)
    return found


def overrides_error(text: str) -> str | None:
    """What is wrong with such a list."""
    try:
        parse_overrides(text)
    except ValueError as error:
        return str(error)
    return None
