# Bring the realm to Keycloak: create it, or add what it does not have yet. What is there is never overwritten,
# because Keycloak forgets who holds a role that is replaced. Secrets are filled in here, out of the environment.
set -eu
realm=$(< /tmp/realm.json)
for name in GUANXI_GATEWAY_SECRET GUANXI_ADMIN_SECRET; do realm=${realm//"\${$name}"/${!name}}; done
printf '%s' "$realm" > /tmp/filled.json
kcadm() { KC_CLI_PASSWORD=$KEYCLOAK_ADMIN_PASSWORD /opt/keycloak/bin/kcadm.sh "$@" --config /tmp/kcadm.config; }
until kcadm config credentials --server "$KEYCLOAK_URL" --realm master --user "$KEYCLOAK_ADMIN"; do sleep 5; done
if kcadm get realms/guanxi > /dev/null 2>&1; then
  kcadm create partialImport --target-realm guanxi --set ifResourceExists=SKIP --file /tmp/filled.json
else
  kcadm create realms --file /tmp/filled.json
fi
