"""What browsers may do with our answers, and which of their requests are refused."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from commands.dashboard.answers import sentence

#: The page loads nothing from elsewhere, and no other page may frame it or take what it answers.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class SameSite:
    """Refuses what another site's page asks for. A link to the page itself works."""

    def __init__(self, inner: ASGIApp) -> None:
        """Around ``inner``."""
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and foreign(Request(scope)):
            refused = sentence(403, "Another site asks for this; open the dashboard itself.")
            await refused(scope, receive, send)
        else:
            await self._inner(scope, receive, send)


def foreign(request: Request) -> bool:
    """Whether a browser says that another site, or another port of this one, asks.

    Browsers set Sec-Fetch-Site; older ones only Origin. Programs set neither.
    """
    headers = request.headers
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is not None and origin != f"{request.url.scheme}://{headers.get('host')}":
        # Behind a proxy that ends TLS, the browser's scheme is https and ours is not.
        return site != "same-origin"
    follows_a_link = request.url.path == "/" and headers.get("sec-fetch-mode") == "navigate"
    return site not in ("same-origin", "none") and not follows_a_link


class Headers:
    """Adds the headers that restrict what a browser does with our answers."""

    def __init__(self, inner: ASGIApp) -> None:
        """Around ``inner``."""
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *((n, v) for n, v in message["headers"]),
                    *((n.lower().encode(), v.encode()) for n, v in _HEADERS.items()),
                ]
            await send(message)

        await self._inner(scope, receive, add)
