"""Settings that only this service has, from the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class WorkspaceSettings(BaseSettings):
    """Where the identity provider is, and which company a new database begins with."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    # A YAML file with departments and people; only an empty database takes it in.
    seed_company: Path | None = None
    # Address of Keycloak, such as "http://keycloak:8080"; empty where another provider keeps the people.
    keycloak_url: str = ""
    keycloak_realm: str = "guanxi"
    keycloak_admin_client: str = "guanxi-admin"
    keycloak_admin_secret: str = Field(default="", repr=False)
