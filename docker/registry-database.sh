#!/bin/bash
# Run once by the postgres image when its data directory is empty: the schema registry has a database of its own.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --set password="$REGISTRY_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE registry LOGIN PASSWORD :'password';
CREATE DATABASE registry OWNER registry;
SQL
