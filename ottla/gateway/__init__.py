"""HTTP for people and programs: health, readiness, metrics."""

from ottla.gateway.app import Gateway
from ottla.gateway.changes import MetadataChanges
from ottla.gateway.replicas import replica_rows
from ottla.gateway.views import GroupRow, NodeViews, ReplicaRow

__all__ = ["Gateway", "GroupRow", "MetadataChanges", "NodeViews", "ReplicaRow", "replica_rows"]
