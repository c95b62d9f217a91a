# Run once, by the PostgreSQL image, on an empty data directory. Every <APP>_OWNER_PASSWORD in the environment makes a
# database <app>, a role <app>_owner that owns its tables and is used by `migrate` alone, and a role <app>, with
# <APP>_PASSWORD, that reads and writes rows and no more.
for APP in $(env | sed -n 's/^\([A-Z]*\)_OWNER_PASSWORD=.*/\1/p'); do
  app=$(echo "$APP" | tr '[:upper:]' '[:lower:]')
  psql --quiet --username postgres --set ON_ERROR_STOP=1 --set app="$app" --set owner="${app}_owner" <<SQL || exit 1
\getenv password ${APP}_PASSWORD
\getenv owner_password ${APP}_OWNER_PASSWORD
CREATE ROLE :"owner" LOGIN PASSWORD :'owner_password';
CREATE ROLE :"app" LOGIN PASSWORD :'password';
CREATE DATABASE :"app" OWNER :"owner";
REVOKE ALL ON DATABASE :"app" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"app" TO :"app";
SQL
done
psql --quiet --username postgres --set ON_ERROR_STOP=1 <<'SQL' || exit 1
\getenv password KEYCLOAK_PASSWORD
CREATE ROLE keycloak LOGIN PASSWORD :'password';
CREATE DATABASE keycloak OWNER keycloak;
REVOKE ALL ON DATABASE keycloak FROM PUBLIC;
SQL
# The operator's agent copies the whole server.
[ -z "${PGDATA:-}" ] || echo 'host replication postgres all scram-sha-256' >> "$PGDATA/pg_hba.conf"
