#!/bin/sh
# Builds the binary of a release for one target and packs it with what belongs to it into target/release-files.
#   release-archive.sh TARGET [FEATURES]      without FEATURES: every kind of handler
# The archive has the same bytes wherever and whenever it is packed from the same binary: names are sorted, times are that of the commit.
set -eu
cd "$(dirname "$0")/.."

target=${1:?usage: release-archive.sh TARGET [FEATURES]}
features=${2:-}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
if command -v rustup >/dev/null 2>&1; then rustup target add "$target" >/dev/null 2>&1 || true; fi

if [ -n "$features" ]; then set -- --no-default-features --features "$features"; else set --; fi
cargo build --locked --profile dist --target "$target" --bin outboxd "$@"
binary=${CARGO_TARGET_DIR:-target}/$target/dist/outboxd

files=target/release-files
name=outboxd-$version-$target
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir -p "$files" "$place/$name/completions"
cp "$binary" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$place/$name/"
cp -R config deploy/systemd "$place/$name/"
for shell in bash zsh fish; do "$binary" completions "$shell" >"$place/$name/completions/outboxd.$shell"; done
"$binary" man "$place/$name/man1"
# What is packed is what runs: a binary that does not start here is no release.
"$binary" --version

when=$(git log -1 --format=%ct 2>/dev/null || echo 0)
if tar --version 2>/dev/null | grep -q GNU; then
    tar -C "$place" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$when" -cf - "$name" | gzip -n >"$files/$name.tar.gz"
else
    tar -C "$place" -czf "$files/$name.tar.gz" "$name"
fi
echo "$files/$name.tar.gz"
