"""Prefect's own code at work on a real server, with all that it would write kept here instead of sent."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
from prefect.client.orchestration import PrefectClient, SyncPrefectClient


@dataclass(frozen=True)
class Write:
    """A request that would have changed the server."""

    method: str
    path: str  # without the address of the API: /deployments/
    body: Any


class KeptWrites(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Hands on what only reads: GET, and the filters, which Prefect asks for with POST. All else is kept.

    To what is kept it answers as the server answers to what was made.
    """

    def __init__(self, client: PrefectClient | SyncPrefectClient) -> None:
        """Take the place of the client's way to its server."""
        self._api = httpx.URL(str(client.api_url)).path.rstrip("/")
        self._inner: Any = client._client._transport_for_url(httpx.URL(str(client.api_url)))  # noqa: SLF001
        client._client._transport = self  # noqa: SLF001
        client._client._mounts = {}  # noqa: SLF001  proxies: the way just taken is one if one is set
        self.writes: list[Write] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a client that waits."""
        return self._keep(request) or self._inner.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer an asynchronous client."""
        return self._keep(request) or await self._inner.handle_async_request(request)

    def close(self) -> None:
        """Close the way to the server."""
        self._inner.close()

    async def aclose(self) -> None:
        """Close the way to the server."""
        await self._inner.aclose()

    def _keep(self, request: httpx.Request) -> httpx.Response | None:
        path = request.url.path.removeprefix(self._api)
        if request.method == "GET" or (request.method == "POST" and path.endswith("/filter")):
            return None
        body = json.loads(request.content) if request.content else None
        self.writes.append(Write(request.method, path, body))
        return httpx.Response(201, json={"id": str(uuid.uuid4())}, request=request)
