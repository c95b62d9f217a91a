"""What the gateway is told by its environment."""

from functools import cached_property
from pathlib import Path

from crmkit.map import APPS, ISSUER_PORT, NATS_PORT, moved
from pydantic_settings import BaseSettings

GATEWAY = next(entry for entry in APPS if entry.name == "gateway")


class Settings(BaseSettings):
    """One field per variable; the defaults are those of a local run."""

    http_port: int = moved(GATEWAY.port)
    # Empty: this machine alone for local runs, everywhere else.
    http_host: str = ""
    metrics_port: int = moved(GATEWAY.metrics_port)
    environment: str = "local"
    log_level: str = "INFO"
    # Where the services are, as in "customer=host:port,sales=host:port"; empty: all of the map, here.
    services: str = ""
    nats_url: str = f"nats://127.0.0.1:{moved(NATS_PORT)}"
    oidc_issuer: str = f"http://127.0.0.1:{moved(ISSUER_PORT)}"
    # Where the issuer's description is read if its own address is not reachable from here; empty: there.
    oidc_discovery_url: str = ""
    oidc_audience: str = "crm-api"
    oidc_client_id: str = "guanxi-web"
    oidc_client_secret: str = ""
    # 32 bytes, base64url: seals session cookies, peppers keys, makes the key of the gateway's own tokens.
    secret_key: str
    files_url: str = ""
    web_root: Path | None = None
    # Origins of other sites that may call the API from a browser, comma separated.
    cors_origins: str = ""
    # What people type into the browser; empty: whatever the request's Host says.
    public_url: str = ""
    # Addresses of proxies whose X-Forwarded-For is believed, comma separated; "*" for all.
    trusted_proxies: str = "127.0.0.1"
    # Calls a second that one caller may make; keys bring their own.
    rate_limit: float = 1000
    max_in_flight: int = 128
    max_queue: int = 256

    @cached_property
    def targets(self) -> dict[str, str]:
        """Host and port of every service by app."""
        if self.services:
            return dict(pair.strip().split("=", 1) for pair in self.services.split(","))  # type: ignore[misc]
        return {e.name: f"127.0.0.1:{moved(e.port)}" for e in APPS if e.name != GATEWAY.name}

    @property
    def host(self) -> str:
        """Where to listen."""
        return self.http_host or ("127.0.0.1" if self.environment == "local" else "0.0.0.0")

    @property
    def discovery(self) -> str:
        """The address of the issuer's description."""
        return self.oidc_discovery_url or f"{self.oidc_issuer.rstrip('/')}/.well-known/openid-configuration"

    @property
    def secure_cookies(self) -> bool:
        """Cookies travel over TLS only, but for local runs."""
        return self.environment != "local"
