"""Limits: what the server takes from its clients, and how long it waits for them."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Limits:
    """Bytes, seconds and numbers; those of a whole server are shared out to its workers."""

    head_bytes: int = 32 * 1024
    """A request's line and headers; more is 431, of the line alone 414."""
    target_bytes: int = 8 * 1024
    headers: int = 100
    body_bytes: int = 64 * 2**30
    """One upload, decoded; more is 413."""

    idle_seconds: float = 600
    """A connection without a request."""
    head_seconds: float = 15
    """From a head's first byte to its last, and for the TLS handshake; longer is 408."""
    stall_seconds: float = 20
    """In which a body, or what is sent, has to come forward by `least_rate` times this."""
    least_rate: int = 1024
    """Bytes per second."""
    linger_seconds: float = 2
    """In which a client that still sends may read why it was refused."""
    grace_seconds: float = 30
    """For requests under way, once the server is to end."""

    connections: int = 20_000
    requests: int = 2_000
    """Under way at once; more are answered 503."""
    uploads: int = 500
    """Under way at once; more are answered 503."""

    def of_worker(self, workers: int) -> Limits:
        """Return what one of so many processes may take."""
        from attrs import evolve

        def share(number: int) -> int:
            return max(1, -(-number // workers))

        return evolve(
            self,
            connections=share(self.connections),
            requests=share(self.requests),
            uploads=share(self.uploads),
        )
