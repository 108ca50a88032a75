#!/bin/sh
# Has systemd itself read the unit and its drop-ins: `systemd-analyze verify`, which knows every setting, and the exposure that
# `systemd-analyze security` computes, which must not get worse. Nothing is installed or started.
set -eu
cd "$(dirname "$0")/.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# A program for ExecStart, so that its absence hides no other mistake.
verify() {
    sed "s#^ExecStart=outboxd #ExecStart=$(command -v true) #" deploy/systemd/outboxd.service >"$place/outboxd.service"
    systemd-analyze verify --man=no "$place/outboxd.service" 2>&1
}

said=$(verify)
[ -z "$said" ] || { echo "check-unit: $said"; exit 1; }
for drop_in in deploy/systemd/*.conf; do
    rm -rf "$place/outboxd.service.d"
    mkdir "$place/outboxd.service.d"
    cp "$drop_in" "$place/outboxd.service.d/"
    said=$(verify)
    [ -z "$said" ] || { echo "check-unit: $drop_in: $said"; exit 1; }
done
rm -rf "$place/outboxd.service.d"
# In tenths; 0 is the best and 10 the worst.
systemd-analyze security --offline=true --threshold=15 "$place/outboxd.service" >"$place/security" ||
    { tail -n 1 "$place/security"; echo "check-unit: the unit is exposed more than 1.5"; exit 1; }
tail -n 1 "$place/security" | sed 's/^[^A-Za-z]*/check-unit: /'
