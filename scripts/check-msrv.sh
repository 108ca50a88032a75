#!/bin/sh
# Compiles outboxd with the oldest compiler that Cargo.toml declares (rust-version): the library that applications link to, and the daemon
# without the brokers. Keeps its own target directory, because another compiler would throw away the other one's work.
# Needs rustup, which fetches the compiler when it is not there. docs/compatibility.md has the policy.
set -eu
cd "$(dirname "$0")/.."

declared=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
toolchain=$declared.0
if ! command -v rustup >/dev/null 2>&1; then
    echo "check-msrv: needs rustup to fetch Rust $toolchain" >&2
    exit 1
fi
rustup toolchain install "$toolchain" --profile minimal --no-self-update >/dev/null 2>&1
export CARGO_TARGET_DIR=target/msrv
echo "check-msrv: the library with Rust $toolchain"
cargo "+$toolchain" check --quiet --locked --no-default-features --lib
if [ "${1:-}" = --library ]; then exit 0; fi
echo "check-msrv: the daemon with Rust $toolchain"
cargo "+$toolchain" check --quiet --locked --no-default-features --features daemon --lib --bins
