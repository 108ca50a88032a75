#!/bin/sh
# Makes the root of the container image: the binary, the shared libraries that it needs, CA certificates, a user without rights, and a place
# for files. The Dockerfile calls it in its build stage; scripts/check-image.sh calls it to try the result without a container engine.
#   image-root.sh BINARY ROOT [LIBRARIES...]
# LIBRARIES are the directories to take shared libraries from, for a binary of another architecture; by default those of this machine.
# Needs readelf (binutils). Reads the binary and never runs it, so it works for any architecture.
set -eu

[ $# -ge 2 ] || { echo "usage: image-root.sh BINARY ROOT [LIBRARIES...]" >&2; exit 64; }
binary=$1
root=$2
shift 2
[ $# -gt 0 ] || set -- /lib/*-linux-gnu /usr/lib/*-linux-gnu /lib64 /usr/lib64

# The file of a library, by its name.
find_library() {
    name=$1
    shift
    for directory in "$@"; do
        if [ -e "$directory/$name" ]; then printf '%s\n' "$directory/$name"; return 0; fi
    done
    echo "image-root: $name is not in $*" >&2
    return 1
}

needed() { readelf --dynamic "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p'; }

case $(readelf --file-header "$binary" | sed -n 's/^ *Machine: *//p') in
    *X86-64*) triple=x86_64-linux-gnu ;;
    AArch64) triple=aarch64-linux-gnu ;;
    *) echo "image-root: $binary is for a machine that is not supported; expected x86-64 or AArch64" >&2; exit 1 ;;
esac

mkdir -p "$root/usr/local/bin" "$root/lib/$triple" "$root/etc/outboxd" "$root/etc/ssl/certs" "$root/tmp"
chmod 0755 "$root"
chmod 1777 "$root/tmp"
cp "$binary" "$root/usr/local/bin/outboxd"

# The loader has to be where the binary says; the libraries are where the loader looks.
loader=$(readelf --program-headers "$binary" | sed -n 's/.*program interpreter: \(.*\)\]$/\1/p')
if [ -n "$loader" ]; then
    mkdir -p "$root$(dirname "$loader")"
    file=$(find_library "$(basename "$loader")" "$@" "$(dirname "$loader")")
    cp -L "$file" "$root$loader"
fi
waiting=$(needed "$binary")
while [ -n "$waiting" ]; do
    next=
    for name in $waiting; do
        # The loader is already there.
        [ "$name" = "$(basename "$loader")" ] && continue
        [ -e "$root/lib/$triple/$name" ] && continue
        file=$(find_library "$name" "$@")
        cp -L "$file" "$root/lib/$triple/$name"
        next="$next $(needed "$file" | tr '\n' ' ')"
    done
    # Without the blanks at its ends: empty when there is nothing more to look at.
    waiting=$(printf '%s' "$next" | xargs)
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >"$root/etc/passwd"
echo 'nonroot:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
