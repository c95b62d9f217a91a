# Bring the realm to Keycloak: create it, or add what it does not have yet. What is there is never overwritten,
# because Keycloak forgets who holds a role that is replaced.
set -eu
kcadm() { /opt/keycloak/bin/kcadm.sh "$@" --config /tmp/kcadm.config; }
until kcadm config credentials --server "$KEYCLOAK_URL" --realm master --user "$KEYCLOAK_ADMIN"; do sleep 5; done
if kcadm get realms/guanxi > /dev/null 2>&1; then
  kcadm create partialImport --target-realm guanxi --set ifResourceExists=SKIP --file /tmp/realm.json
else
  kcadm create realms --file /tmp/realm.json
fi
