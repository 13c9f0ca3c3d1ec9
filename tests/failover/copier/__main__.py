"""`python -m tests.failover.copier LIBRARY JOB`, where JOB is JSON with the fields of `Job`.

Ends with status 0 after SIGTERM, FENCED_STATUS when it was fenced, and 1 when it gave up for another reason.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import logging
import os
import signal
import sys
import traceback

import structlog

from tests.failover.copier.job import Job

# Where hypothesis is installed, kio imports it to register strategies: half a second for nothing here.
sys.modules.setdefault("hypothesis", None)  # type: ignore[arg-type]

MODULES = {"ottla": "ours", "confluent-kafka": "librdkafka", "aiokafka": "aio"}
FENCED_STATUS = 3
PR_SET_PDEATHSIG = 1


async def main(library: str, job: Job) -> int:
    """Copy; tell why no more."""
    module = importlib.import_module(f"tests.failover.copier.{MODULES[library]}")

    def stop() -> None:
        job.stopping = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    if module.PATIENCE_S is not None:
        job.watch(module.PATIENCE_S)
    try:
        await module.copy(job)
    except module.FENCED as error:
        job.say("fenced", error=repr(error))
        return FENCED_STATUS
    except Exception as error:  # noqa: BLE001  whatever it is, the next instance goes on where the group has committed
        traceback.print_exc()
        job.say("gave up", error=repr(error))
        return 1
    job.say("stopped")
    return 0


if __name__ == "__main__":
    # Whoever is killed by mistake, no copier is left behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Standard output is for what the copier says.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # The end of a process is an end: what a library might still do in its threads or destructors is not waited for.
    os._exit(asyncio.run(main(sys.argv[1], Job(**json.loads(sys.argv[2])))))
