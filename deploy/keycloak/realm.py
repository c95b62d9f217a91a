"""The Keycloak realm `guanxi`, generated: `python deploy/keycloak/realm.py > realm.json`.

The permissions of the protos become client roles of `crm-api`, the business roles of roles.yaml become realm
roles composed of them. `GUANXI_ADMIN_SECRET` in the environment becomes the secret of `guanxi-admin`, with
which the workspace service keeps people and departments in step.
"""

import argparse
import json
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import crmprotos
import yaml
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

ROLES = Path(__file__).resolve().parents[2] / "services" / "workspace" / "workspace" / "roles.yaml"

API = "crm-api"
SCOPE = "crm"
SIGNED_IN_SECONDS = 10 * 3600
# For how long a second factor is believed, by Keycloak and by every service.
STEP_UP_SECONDS = 600


def realm(web_origins: list[str], admin_secret: str) -> dict[str, Any]:
    """Return the realm: where the web client may be reached, and the secret of the client `guanxi-admin`."""
    permissions = permissions_of(crmprotos.load())
    roles: dict[str, Any] = yaml.safe_load(ROLES.read_text())
    return {
        "realm": "guanxi",
        "displayName": "关系 CRM",
        "enabled": True,
        "sslRequired": "external",
        "registrationAllowed": False,
        "loginWithEmailAllowed": False,
        "editUsernameAllowed": False,
        "internationalizationEnabled": True,
        "supportedLocales": ["zh-CN", "en"],
        "defaultLocale": "zh-CN",
        "defaultSignatureAlgorithm": "RS256",
        "accessTokenLifespan": 300,
        # Who does nothing for half an hour signs in anew, and everybody does after ten hours.
        "ssoSessionIdleTimeout": 1800,
        "ssoSessionMaxLifespan": SIGNED_IN_SECONDS,
        "revokeRefreshToken": True,
        "refreshTokenMaxReuse": 0,
        "bruteForceProtected": True,
        "failureFactor": 5,
        "waitIncrementSeconds": 60,
        "maxFailureWaitSeconds": 900,
        "browserFlow": "guanxi browser",
        "authenticationFlows": _flows(),
        "authenticatorConfig": [_level(1, SIGNED_IN_SECONDS), _level(2, STEP_UP_SECONDS)],
        "attributes": {"acr.loa.map": json.dumps({"1": 1, "2": 2})},
        "passwordPolicy": "length(12) and notUsername(undefined) and notContainsUsername(undefined)"
        " and passwordHistory(5)",
        "eventsEnabled": True,
        "eventsExpiration": 30 * 86400,
        "adminEventsEnabled": True,
        "roles": {
            "client": {API: [{"name": permission} for permission in permissions]},
            "realm": [
                {
                    "name": name,
                    "description": f"{role['label']['zh']} / {role['label']['en']}",
                    "attributes": {"scope": [role["scope"]]},
                    "composite": True,
                    "composites": {"client": {API: expand(role["permissions"], permissions)}},
                }
                for name, role in roles.items()
            ],
        },
        "clientScopes": [
            {
                "name": SCOPE,
                "protocol": "openid-connect",
                "attributes": {"include.in.token.scope": "false", "display.on.consent.screen": "false"},
                "protocolMappers": _mappers(),
            },
            # Clients ask for it out of habit; what it would give is in ours.
            {
                "name": "profile",
                "protocol": "openid-connect",
                "attributes": {"include.in.token.scope": "false"},
            },
        ],
        "defaultDefaultClientScopes": [SCOPE],
        "clients": _clients(web_origins, admin_secret),
        "users": [_service_account("guanxi-admin", _SYNCHRONISATION)],
        "components": {"org.keycloak.userprofile.UserProfileProvider": [_user_profile()]},
    }


def permissions_of(descriptors: FileDescriptorSet) -> list[str]:
    """Return every permission that a method or a field asks for, sorted."""
    from crm.options.v1 import options_pb2

    # The generated stubs know extensions under another type.
    options: Any = options_pb2

    def of_fields(message: DescriptorProto) -> set[str]:
        found = {field.options.Extensions[options.field].read_permission for field in message.field}
        return found.union(*(of_fields(nested) for nested in message.nested_type))

    found: set[str] = set()
    for file in descriptors.file:
        for service in file.service:
            found |= {method.options.Extensions[options.permission] for method in service.method}
        for message in file.message_type:
            found |= of_fields(message)
    return sorted(found - {"", "*", "public"})


def expand(patterns: list[str], permissions: list[str]) -> list[str]:
    """Return the permissions that at least one pattern matches."""
    return [name for name in permissions if any(fnmatchcase(name, pattern) for pattern in patterns)]


# All that the five calls of workspace's adapter want, and nothing that one of the others gives already.
_SYNCHRONISATION = [
    # Accounts, their departments, roles and sessions.
    "manage-users",
    # Realm roles.
    "manage-realm",
    # Roles are composed of the API client's roles, and Keycloak lets only who manages clients compose with them.
    "manage-clients",
    # Whom it has locked out after too many wrong passwords.
    "view-events",
]


def _flows() -> list[dict[str, Any]]:
    """Signing in: a password is level 1; who asks for level 2 (`acr_values=2`) gives a one-time password, too."""

    def flow(alias: str, *steps: dict[str, Any], top: bool = False) -> dict[str, Any]:
        numbered = [{"priority": 10 * number, **step} for number, step in enumerate(steps, 1)]
        return {
            "alias": alias, "providerId": "basic-flow", "topLevel": top, "builtIn": False,
            "authenticationExecutions": numbered,
        }  # fmt: skip

    def step(authenticator: str, requirement: str = "REQUIRED", config: str = "") -> dict[str, Any]:
        found = {"authenticator": authenticator, "requirement": requirement, "authenticatorFlow": False}
        return found | ({"authenticatorConfig": config} if config else {})

    def inner(alias: str, requirement: str) -> dict[str, Any]:
        return {"flowAlias": alias, "requirement": requirement, "authenticatorFlow": True}

    level = "conditional-level-of-authentication"
    return [
        flow(
            "guanxi browser",
            step("auth-cookie", "ALTERNATIVE"),
            inner("guanxi sign-in", "ALTERNATIVE"),
            top=True,
        ),
        flow(
            "guanxi sign-in",
            inner("guanxi password", "CONDITIONAL"),
            inner("guanxi second factor", "CONDITIONAL"),
        ),
        flow("guanxi password", step(level, config="level 1"), step("auth-username-password-form")),
        flow("guanxi second factor", step(level, config="level 2"), step("auth-otp-form")),
        flow(
            "direct grant",
            step("direct-grant-validate-username"),
            step("direct-grant-validate-password"),
            top=True,
        ),
        flow("registration", step("auth-cookie", "DISABLED"), top=True),
    ]


def _level(number: int, seconds: int) -> dict[str, Any]:
    config = {"loa-condition-level": str(number), "loa-max-age": str(seconds)}
    return {"alias": f"level {number}", "config": config}


def _clients(web_origins: list[str], admin_secret: str) -> list[dict[str, Any]]:
    closed = {
        "protocol": "openid-connect",
        "enabled": True,
        "standardFlowEnabled": False,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "serviceAccountsEnabled": False,
        "fullScopeAllowed": True,
        "defaultClientScopes": [SCOPE],
        "optionalClientScopes": ["profile"],
    }
    return [
        {**closed, "clientId": API, "name": "CRM API", "bearerOnly": True},
        {
            **closed,
            "clientId": "guanxi-web",
            "name": "Guanxi CRM",
            "publicClient": True,
            "standardFlowEnabled": True,
            "redirectUris": [f"{origin}/*" for origin in web_origins],
            "webOrigins": web_origins,
            "attributes": {"pkce.code.challenge.method": "S256", "post.logout.redirect.uris": "+"},
        },
        {
            **closed,
            "clientId": "guanxi-admin",
            "serviceAccountsEnabled": True,
            "secret": admin_secret,
        },
    ]


def _mappers() -> list[dict[str, Any]]:
    """Return the mappers that give a token the claims of docs/kit.md."""
    audience = {"included.client.audience": API, "access.token.claim": "true", "id.token.claim": "false"}
    everywhere = {
        "access.token.claim": "true",
        "id.token.claim": "true",
        "userinfo.token.claim": "true",
        "introspection.token.claim": "true",
    }

    def mapper(name: str, kind: str, config: dict[str, str]) -> dict[str, Any]:
        return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}

    def attribute(claim: str, source: str) -> dict[str, Any]:
        config = {**everywhere, "claim.name": claim, "user.attribute": source, "jsonType.label": "String"}
        return mapper(claim, "oidc-usermodel-attribute-mapper", config)

    roles = {**everywhere, "claim.name": "roles", "multivalued": "true", "jsonType.label": "String"}
    return [
        mapper("audience", "oidc-audience-mapper", audience),
        mapper("sub", "oidc-sub-mapper", {"access.token.claim": "true", "introspection.token.claim": "true"}),
        mapper("roles", "oidc-usermodel-realm-role-mapper", roles),
        mapper(
            "groups",
            "oidc-group-membership-mapper",
            {**everywhere, "claim.name": "groups", "full.path": "true"},
        ),
        mapper("acr", "oidc-acr-mapper", {"access.token.claim": "true", "id.token.claim": "true"}),
        mapper(
            "auth_time",
            "oidc-usersessionmodel-note-mapper",
            {
                **everywhere,
                "claim.name": "auth_time",
                "user.session.note": "AUTH_TIME",
                "jsonType.label": "long",
            },
        ),
        attribute("preferred_username", "username"),
        attribute("name", "displayName"),
        attribute("locale", "locale"),
        attribute("employee", "employee"),
        attribute("account", "account"),
        attribute("contact", "contact"),
        attribute("kind", "kind"),
    ]


def _user_profile() -> dict[str, Any]:
    """Declare what is kept of a person. The claims come from it, so only administrators change it."""
    both = ["admin", "user"]

    def attribute(name: str, edit: list[str], required: bool = False) -> dict[str, Any]:
        declared: dict[str, Any] = {
            "name": name,
            "displayName": name,
            "multivalued": False,
            "permissions": {"view": both, "edit": edit},
            "validations": {"length": {"max": 255}},
        }
        return declared | ({"required": {"roles": ["admin"]}} if required else {})

    attributes = [
        attribute("username", ["admin"]),
        attribute("email", ["admin"]),
        attribute("displayName", ["admin"], required=True),
        attribute("locale", both),
        attribute("employee", ["admin"]),
        attribute("account", ["admin"]),
        attribute("contact", ["admin"]),
        # Staff, partner, customer or service: what bounds the caller whatever the roles say.
        attribute("kind", ["admin"]),
    ]
    profile = json.dumps({"attributes": attributes})
    return {"providerId": "declarative-user-profile", "config": {"kc.user.profile.config": [profile]}}


def _service_account(client: str, roles: list[str]) -> dict[str, Any]:
    return {
        "username": f"service-account-{client}",
        "enabled": True,
        "serviceAccountClientId": client,
        "clientRoles": {"realm-management": roles},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the realm for Keycloak's import.")
    parser.add_argument(
        "--web-origin", action="append", required=True, help="such as https://crm.example.com"
    )
    json.dump(
        realm(parser.parse_args().web_origin, os.environ["GUANXI_ADMIN_SECRET"]),
        sys.stdout,
        ensure_ascii=False,
        indent=1,
    )
