#!/bin/bash
# wait-for.sh TARGET... -- COMMAND...: run COMMAND once every TARGET answers.
#
# TARGET is a postgresql:// or http:// address. Each service waits for what it needs by itself, because not every
# container engine honours `depends_on: condition: service_healthy`, and none does after a reboot.
set -euo pipefail
readonly WAIT_SECONDS=${WAIT_SECONDS:-300}

# The password is read from the environment: what is in an argument, every process can read.
readonly ASK='
import base64, os, sys, urllib.request
user = os.environ.get("PREFECT_API_AUTH_STRING", "") if "://prefect" in sys.argv[1] else ""
request = urllib.request.Request(sys.argv[1])
if user:
    request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
urllib.request.urlopen(request, timeout=5)
'

answers() { # a real login and a real page: an open port may belong to a server that is still starting
    case $1 in
        postgresql://*) python -c 'import sys, psycopg2; psycopg2.connect(sys.argv[1], connect_timeout=5)' "$1" ;;
        *) python -c "$ASK" "$1" ;;
    esac
}

while [ "$1" != -- ]; do
    until why=$(answers "$1" 2>&1); do
        if ((SECONDS >= WAIT_SECONDS)); then
            echo "wait-for: $1 did not answer in $WAIT_SECONDS s: ${why##*$'\n'}" >&2
            [[ $why == *"is not permitted to log in"* ]] &&
                echo "wait-for: a restore was broken off; until one is whole, nothing starts: make restore FROM=... FORCE=1" >&2
            exit 1
        fi
        sleep 1
    done
    echo "wait-for: $1 answers"
    shift
done
shift
exec "$@"
