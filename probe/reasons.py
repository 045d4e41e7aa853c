"""Why the network failed, in one line a user can act on."""

from __future__ import annotations

from urllib.parse import urlsplit

LONGEST = 200


def network_reason(error: Exception) -> str:
    """requests nests its reasons four deep; what matters is whether the server answered at all."""
    import requests
    import urllib3

    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"{_host(error)} does not answer"
    if isinstance(error, urllib3.exceptions.HTTPError):
        return f"the connection to {_host(error)} was lost"
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return f"{_host(error)} does not answer"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {_host(error)}, or it was lost"
    return f"{type(error).__name__}: {str(error)[:LONGEST]}"


def was_reached(error: Exception) -> bool:
    """Whether the server was there before the connection was lost: asking again soon may then help."""
    import requests
    import urllib3

    if not isinstance(error, requests.ConnectionError):
        return True
    return bool(error.args) and isinstance(error.args[0], urllib3.exceptions.ProtocolError)


def _host(error: Exception) -> str:
    request = getattr(error, "request", None)
    return (urlsplit(request.url).hostname if request is not None else None) or "the server"
