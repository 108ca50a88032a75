#!/bin/sh
# Makes the packages for Debian and Fedora from the binary that release-archive.sh has built, into target/release-files. Their contents are
# declared in Cargo.toml ([package.metadata.deb] and [package.metadata.generate-rpm]).
#   release-packages.sh TARGET
set -eu
cd "$(dirname "$0")/.."

target=${1:?usage: release-packages.sh TARGET}
directory=${CARGO_TARGET_DIR:-target}/$target/dist
[ -x "$directory/outboxd" ] || { echo "release-packages: there is no $directory/outboxd; run scripts/release-archive.sh $target" >&2; exit 1; }
command -v cargo-deb >/dev/null 2>&1 || cargo install cargo-deb --version 3.8.0 --locked --quiet
command -v cargo-generate-rpm >/dev/null 2>&1 || cargo install cargo-generate-rpm --version 0.21.1 --locked --quiet

mkdir -p target/release-files target/packages
# The tools take their files from there.
for shell in bash zsh fish; do "$directory/outboxd" completions "$shell" >"target/packages/outboxd.$shell"; done
rm -rf target/packages/man
"$directory/outboxd" man target/packages/man
cargo deb --no-build --no-strip --locked --profile dist --target "$target" --output target/release-files/
cargo generate-rpm --profile dist --target "$target" --output target/release-files/
ls target/release-files
