#!/bin/sh
# Tries the container image without a container engine: lists what its root has, and runs the binary in that root and nothing else, as the
# user of the image. The root is made by the script that the Dockerfile uses, scripts/image-root.sh.
#   check-image.sh [BINARY]      default: the newest of target/dist, target/release and target/debug
# Needs root for chroot, or a kernel that lets users make namespaces (unshare).
set -eu
cd "$(dirname "$0")/.."

binary=${1:-}
for candidate in target/dist/outboxd target/release/outboxd target/debug/outboxd; do
    if [ -z "$binary" ] && [ -x "$candidate" ]; then binary=$candidate; fi
done
[ -n "$binary" ] || { echo "check-image: there is no binary; build one first: cargo build" >&2; exit 1; }

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
chmod 0755 "$place"
root=$place/root
sh scripts/image-root.sh "$binary" "$root"
cp config/examples/stdout.toml "$root/etc/outboxd/outboxd.toml"
chmod 0644 "$root/etc/outboxd/outboxd.toml"

echo "check-image: what the image has"
(cd "$root" && find . -type f ! -name outboxd.toml -exec ls -l {} + | awk '{ printf "%10d  %s\n", $5, substr($NF, 2) }' | sort -k 2)

# With only what is in the root.
inside() {
    if [ "$(id -u)" = 0 ]; then
        chroot --userspec=65532:65532 "$root" /usr/local/bin/outboxd "$@"
    else
        unshare --user --map-root-user --root="$root" /usr/local/bin/outboxd "$@"
    fi
}

echo "check-image: it runs"
inside --version
export OUTBOXD_CONFIG=/etc/outboxd/outboxd.toml DATABASE_URL=postgres://localhost/none
inside check >/dev/null
echo "check-image: passed"
