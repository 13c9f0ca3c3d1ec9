from tests.broker.conftest import world

__all__ = ["world"]
