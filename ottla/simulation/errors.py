"""What a simulation can end with."""


class SimulationError(Exception):
    """The simulated world was used in a way that no real one could be."""


class Deadlock(SimulationError):
    """Everybody waits, and nothing is left that could end it."""


class Anomaly(AssertionError):
    """A promise of the system did not hold; the text says which, and where."""
