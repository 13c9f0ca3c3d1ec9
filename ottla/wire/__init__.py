"""The Kafka protocol: framing, schemas, the registry of APIs, server and client connections."""

from ottla.wire.api import (
    ANONYMOUS,
    CLOSE,
    NO_RESPONSE,
    Answer,
    Api,
    Chunk,
    Close,
    Connection,
    Handler,
    Later,
    NoResponse,
    Parser,
    Raw,
    Request,
)
from ottla.wire.client import SOFTWARE_NAME, SOFTWARE_VERSION, KafkaConnection
from ottla.wire.errors import ConnectionLost, ProtocolError, RequestTimedOut
from ottla.wire.fetch import (
    FetchPartition,
    FetchRequest,
    encode_fetch_request,
    parse_fetch_request,
)
from ottla.wire.fetch_response import (
    FetchPartitionResponse,
    FetchResponse,
    decode_fetch_response,
    encode_fetch_response,
)
from ottla.wire.metering import Meter, on_the_bill
from ottla.wire.produce import (
    NodeEndpoint,
    ProducePartitionResponse,
    ProduceRequest,
    ProduceResponse,
    decode_produce_response,
    encode_produce_request,
    encode_produce_response,
    parse_produce_request,
)
from ottla.wire.registry import API_VERSIONS, Feature, Registry
from ottla.wire.schema import build, decode, encode, request_type, response_type
from ottla.wire.server import KafkaServer, Limits, Stats

__all__ = [
    "ANONYMOUS",
    "API_VERSIONS",
    "CLOSE",
    "NO_RESPONSE",
    "SOFTWARE_NAME",
    "SOFTWARE_VERSION",
    "Answer",
    "Api",
    "Chunk",
    "Close",
    "Connection",
    "ConnectionLost",
    "Feature",
    "FetchPartition",
    "FetchPartitionResponse",
    "FetchRequest",
    "FetchResponse",
    "Handler",
    "KafkaConnection",
    "KafkaServer",
    "Later",
    "Limits",
    "Meter",
    "NoResponse",
    "NodeEndpoint",
    "Parser",
    "ProducePartitionResponse",
    "ProduceRequest",
    "ProduceResponse",
    "ProtocolError",
    "Raw",
    "Registry",
    "Request",
    "RequestTimedOut",
    "Stats",
    "build",
    "decode",
    "decode_fetch_response",
    "decode_produce_response",
    "encode",
    "encode_fetch_request",
    "encode_fetch_response",
    "encode_produce_request",
    "encode_produce_response",
    "on_the_bill",
    "parse_fetch_request",
    "parse_produce_request",
    "request_type",
    "response_type",
]
