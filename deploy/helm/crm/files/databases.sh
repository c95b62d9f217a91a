# Run once, by the PostgreSQL image, on an empty data directory: for every app in $APPS a database of its name, a
# role of its name that reads and writes, and a role <app>_owner that owns the tables and is used by `migrate` alone.
# The passwords are in the environment as <app>_password and <app>_owner_password.
set -eu
for app in $APPS; do
  psql --quiet --username postgres --set ON_ERROR_STOP=1 --set app="$app" --set owner="${app}_owner" <<'SQL'
\set password_variable :app '_password'
\set owner_password_variable :owner '_password'
\getenv password :password_variable
\getenv owner_password :owner_password_variable
CREATE ROLE :"owner" LOGIN PASSWORD :'owner_password';
CREATE ROLE :"app" LOGIN PASSWORD :'password';
CREATE DATABASE :"app" OWNER :"owner";
REVOKE ALL ON DATABASE :"app" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"app" TO :"app";
SQL
done
psql --quiet --username postgres --set ON_ERROR_STOP=1 <<'SQL'
\getenv password keycloak_password
CREATE ROLE keycloak LOGIN PASSWORD :'password';
CREATE DATABASE keycloak OWNER keycloak;
REVOKE ALL ON DATABASE keycloak FROM PUBLIC;
SQL
