"""Judges a history: what clients were told must fit to one log per partition that never loses, doubles or reorders."""

from ottla.simulation.checker.check import ALLOWED, CHECKS, check
from ottla.simulation.checker.finding import Finding, judge
from ottla.simulation.checker.model import Model, Op, Send
from ottla.simulation.checker.progress import Progress, progress

__all__ = ["ALLOWED", "CHECKS", "Finding", "Model", "Op", "Progress", "Send", "check", "judge", "progress"]
