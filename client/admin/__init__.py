"""Looking after a cluster."""

from ottla.client.admin.admin import Admin

__all__ = ["Admin"]
