#!/bin/bash
# Run by the postgres image once, when its volume is empty: a database for each server, with a role that owns this one
# database and cannot connect to the other.
set -euo pipefail

create() { # ROLE PASSWORD; psql quotes the values, so any character is safe in a password
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set role="$1" --set password="$2" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"role" OWNER :"role";
REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
SQL
}

create prefect "$PREFECT_DB_PASSWORD"
create mlflow "$MLFLOW_DB_PASSWORD"
