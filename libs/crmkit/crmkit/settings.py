"""Settings of one process, from the environment. Every default is right for a developer's machine."""

from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an app is told at start; `docs/kit.md` explains each."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: str = "postgresql://localhost:7432"
    migration_database_url: str = ""
    nats_url: str = "nats://localhost:7422"
    nats_replicas: int = 1
    oidc_issuer: str = "http://localhost:7480"
    # Where the issuer's description is read if its own address is not reachable from here; empty: there.
    oidc_discovery_url: str = ""
    oidc_audience: str = "crm-api"
    gateway_issuer_jwks: str = ""
    grpc_port: int = 0
    metrics_port: int = 0
    bind_address: str = "127.0.0.1"
    secret_key: str = Field(default="", repr=False)
    files_url: str = ""
    otel_exporter_otlp_endpoint: str = ""
    log_level: str = "INFO"
    environment: str = "local"
    db_pool_size: int = 10
    # Multiplies how long a call waits for a connection, a lock and a statement; more than 1 on a machine that stalls.
    patience: float = 1.0
    max_concurrent_calls: int = 200
    # Workspace alone: the company that an empty database begins with, and the Keycloak that follows its people.
    seed_company: Path | None = None
    keycloak_url: str = ""
    keycloak_realm: str = "guanxi"
    keycloak_admin_client: str = "guanxi-admin"
    keycloak_admin_secret: str = Field(default="", repr=False)
    # The development issuer in its place, on loopback only.
    dev_issuer_url: str = ""
    dev_issuer_secret: str = Field(default="", repr=False)
    # Of two sessions of a person on computers, or two on telephones, one ends: the oldest, or the one that comes.
    session_limit: Literal["END_OLDEST", "REFUSE"] = "END_OLDEST"
    # How workspace sends mail and reads the answers to invitations: smtp://user:password@host:port, imap://….
    smtp_url: str = Field(default="", repr=False)
    imap_url: str = Field(default="", repr=False)
    mail_from: str = "calendar@guanxi.invalid"
    # What people type into the browser: where links in mail lead. Without it there are none.
    public_url: str = ""
    # Customer alone: who knows where an address is, what the register of companies says, and who takes short
    # messages. The files stand in where no address is set; the modules that ask tell the contracts.
    geocoder_url: str = ""
    gazetteer_file: str = ""
    register_url: str = ""
    register_file: str = ""
    messenger_url: str = ""
    # Where workspace gives notices to the adapters of other ways, as signed JSON; empty: there is no such way.
    sms_url: str = Field(default="", repr=False)
    push_url: str = Field(default="", repr=False)
    chat_bot_url: str = Field(default="", repr=False)
    # The virus scanner's daemon, tcp://host:3310 or unix:///path; empty: the built-in check alone.
    clamav_url: str = ""
    # The fax machine: hylafax:/usr/bin/sendfax (the command of HylaFAX) or file:///folder (where another one looks).
    fax_url: str = ""

    # The exchange that dials for telesales: POST {cti_url}/calls; empty: agents dial by themselves.
    cti_url: str = ""

    # The page of the payment service that buyers of the web shop are sent to; empty: they pay by invoice.
    pay_url: str = ""
    # What is signed between the payment service and us; without it nothing is paid there.
    pay_key: str = Field(default="", repr=False)

    @field_validator("secret_key")
    @classmethod
    def _is_a_key(cls, value: str) -> str:
        if value and len(urlsafe_b64decode(value + "==")) < 32:
            raise ValueError("SECRET_KEY must be at least 32 bytes, base64url")
        return value

    @field_validator("dev_issuer_url")
    @classmethod
    def _is_loopback(cls, value: str) -> str:
        if value and urlsplit(value).hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("DEV_ISSUER_URL signs anybody in and is on loopback only")
        return value

    @property
    def keeps_accounts(self) -> bool:
        """True where an identity provider follows the people: who is new waits for the account."""
        return bool(self.keycloak_url or self.dev_issuer_url)

    @property
    def secret(self) -> bytes:
        """The secret key; missing is an error where it is needed, not a weak default."""
        if not self.secret_key:
            raise ValueError("SECRET_KEY is not set")
        return urlsafe_b64decode(self.secret_key + "==")[:32]

    def database(self, app: str, owner: bool = False) -> str:
        """SQLAlchemy URL of the app's database, as its user or as the owner who migrates."""
        url = (self.migration_database_url or self.database_url) if owner else self.database_url
        scheme, rest = url.split("://", 1)
        if scheme not in {"postgresql", "postgres"}:
            raise ValueError("DATABASE_URL must begin with postgresql://")
        base, _, query = rest.partition("?")
        host = base.rstrip("/").split("/")[0].replace("{app}", app)
        return f"postgresql+asyncpg://{host}/{app}" + (f"?{query}" if query else "")
