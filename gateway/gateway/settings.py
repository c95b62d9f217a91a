"""What the gateway is told by its environment."""

from functools import cached_property
from pathlib import Path

from crmkit import settings as kit
from crmkit.map import APPS, moved

GATEWAY = next(entry for entry in APPS if entry.name == "gateway")


class Settings(kit.Settings):
    """The kit's settings and the gateway's own; the defaults are those of a local run."""

    http_port: int = moved(GATEWAY.port)
    http_host: str = "127.0.0.1"
    metrics_port: int = moved(GATEWAY.metrics_port)
    # Where the services are, as in "customer=host:port,sales=host:port"; empty: all of the map, here.
    services: str = ""
    # Where the issuer's description is read if its own address is not reachable from here; empty: there.
    oidc_discovery_url: str = ""
    oidc_client_id: str = "guanxi-web"
    oidc_client_secret: str = ""
    web_root: Path | None = None
    # Origins of other sites that may call the API from a browser, comma separated.
    cors_origins: str = ""
    # What people type into the browser; empty: whatever the request's Host says.
    public_url: str = ""
    # Addresses of proxies whose X-Forwarded-For is believed, comma separated; "*" for all.
    trusted_proxies: str = "127.0.0.1"
    # Calls a second that one caller may make; keys bring their own.
    rate_limit: float = 1000
    # The virus scanner's daemon, tcp://host:3310 or unix:///path; empty: the built-in check alone.
    clamav_url: str = ""
    # The largest file that is taken, in MiB, and the endings of files that are not, comma separated.
    file_limit_mb: int = 200
    refused_files: str = (
        "app,bat,cmd,com,cpl,dll,dmg,exe,hta,jar,jse,lnk,msc,msi,msp,pif,ps1,reg,scr,sys,vbe,vbs,wsf,wsh"
    )
    max_in_flight: int = 128
    max_queue: int = 256

    @cached_property
    def targets(self) -> dict[str, str]:
        """Host and port of every service by app."""
        if not self.services:
            return {e.name: f"127.0.0.1:{moved(e.port)}" for e in APPS if e.name != GATEWAY.name}
        pairs = (pair.strip().partition("=") for pair in self.services.split(","))
        return {app: target for app, _, target in pairs}

    @property
    def discovery(self) -> str:
        """Where the issuer describes itself."""
        issuer = self.oidc_issuer.rstrip("/")
        return self.oidc_discovery_url or f"{issuer}/.well-known/openid-configuration"

    @property
    def secure_cookies(self) -> bool:
        """Cookies travel over TLS only, but for local runs."""
        return self.environment != "local"
