#!/bin/bash
# Writes what depends on this stack, hosts, name server and certificate, beside nginx.conf, then becomes nginx.
set -euo pipefail
: "${PUBLIC_HOST:?}"
mkdir -p /tmp/nginx

# Names are asked for again every 10 s: a service that was made anew has another address.
nameserver=$(awk '$1 == "nameserver" {print $2; exit}' /etc/resolv.conf)
[[ $nameserver == *:* ]] && nameserver="[$nameserver]"
echo "resolver $nameserver valid=10s ipv6=off;" > /tmp/nginx/resolver.conf

# Who asked for https never gets http instead: without a certificate there is no door.
tls=${TLS_FOLDER:-} ssl=""
if [[ -n $tls ]]; then
    for file in tls.crt tls.key; do
        [[ -r $tls/$file ]] && continue
        echo "proxy: $tls/$file cannot be read: put it into docker/tls, readable to uid $UID (docs/stack.md)" >&2
        exit 1
    done
    ssl=" ssl"
    printf 'ssl_certificate %s/tls.crt;\nssl_certificate_key %s/tls.key;\nssl_protocols TLSv1.2 TLSv1.3;\n' "$tls" "$tls"
fi > /tmp/nginx/tls.conf

door() { # PORT SERVICE: any other Host header, such as one that was rebound to this address, is misdirected
    cat <<NGINX
server {
    listen $1$ssl default_server;
    server_name "";
    location / { return 421; }
}
server {
    listen $1$ssl;
    server_name $PUBLIC_HOST localhost 127.0.0.1;
    location / {
        set \$service http://$2:$1;
        proxy_pass \$service;
    }
}
NGINX
}
{ door 4200 prefect; door 5000 mlflow; } > /tmp/nginx/doors.conf

exec nginx -c /etc/nginx/nginx.conf -g 'daemon off;'
