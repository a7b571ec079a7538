#!/bin/bash
# A database for each server, with a role that owns this one database and cannot connect to the other. The postgres image
# runs it once, when its volume is empty; run again, it sets the passwords to those of the environment.
set -euo pipefail

sql() { psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres "$@"; }

create() { # ROLE PASSWORD; psql quotes the values, so any character is safe in a password
    export ROLE_PASSWORD=$2 # not an argument, which every process can read
    sql --set role="$1" <<'SQL'
\getenv password ROLE_PASSWORD
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'role', :'role')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'role') \gexec
REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
SQL
}

create prefect "$PREFECT_DB_PASSWORD"
create mlflow "$MLFLOW_DB_PASSWORD"
export ROLE_PASSWORD=$POSTGRES_PASSWORD
sql <<'SQL'
\getenv password ROLE_PASSWORD
ALTER ROLE CURRENT_USER PASSWORD :'password';
SQL
