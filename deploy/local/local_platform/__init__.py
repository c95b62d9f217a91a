"""The whole platform on one machine.

`servers`   embedded PostgreSQL and NATS
`issuer`    a small OpenID provider for loopback
`keycloak`  the real one, for `--identity keycloak`
`launcher`  starts everything in order and stops it in reverse
"""
