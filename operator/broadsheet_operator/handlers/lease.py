"""Who leads: a Lease that one operator holds (coordination.k8s.io/v1). Standbys are Ready and wait.

kopf's own peering freezes all peers of equal priority, so it is switched off. The election is that of the client
library; what is added here is that a network error is a failed try and not the end of the standby.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_SECONDS = 10
RETRY_SECONDS = 2


async def lead(
    api_client: Any, name: str, namespace: str, identity: str, while_leading: Callable[[], Awaitable[None]]
) -> None:
    """Wait for the lease, then run `while_leading` until it ends or the lease is lost; then return.

    A leader that lost its lease must not go on acting: the caller ends the process, and a new one stands by.
    """
    import aiohttp
    from kubernetes.aio.leaderelection import electionconfig, leaderelection
    from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

    class PatientElection(leaderelection.LeaderElection):
        async def try_acquire_or_renew(self) -> bool:
            try:
                return bool(await asyncio.wait_for(super().try_acquire_or_renew(), RETRY_SECONDS * 2))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                logger.warning("lease %s/%s: the API server does not answer: %r", namespace, name, error)
                return False

    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def started() -> None:
        logger.info("leading as %s (lease %s/%s)", identity, namespace, name)
        try:
            await while_leading()
        except BaseException as error:
            if not ended.done():
                ended.set_exception(error)
            raise
        if not ended.done():
            ended.set_result(None)

    async def lost() -> None:
        logger.error("lease %s/%s is lost: stopping, so that only one operator acts", namespace, name)

    configuration = electionconfig.Config(
        LeaseLock(name, namespace, identity, api_client),
        lease_duration=LEASE_SECONDS,
        renew_deadline=RENEW_SECONDS,
        retry_period=RETRY_SECONDS,
        onstarted_leading=started,
        onstopped_leading=lost,
    )
    election = asyncio.create_task(PatientElection(configuration).run(), name="leader election")
    await asyncio.wait({election, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not election.done():
        election.cancel()
    await asyncio.gather(election, return_exceptions=True)
    if ended.done() and not ended.cancelled():
        ended.result()  # raises what ended the work
