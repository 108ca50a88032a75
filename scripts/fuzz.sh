#!/bin/sh
# Runs the targets of fuzz/ under libFuzzer: what outsiders write, any bytes. `TARGET=template MINUTES=5 sh scripts/fuzz.sh` runs one for
# longer; without TARGET each runs for MINUTES, which is 1 by itself. An input that breaks something ends the run and is left in
# fuzz/artifacts: mend what it shows and add it to tests/corpus, which every `make test` goes through.
# What is found to reach new code is kept in fuzz/corpus, so that the next run goes on from there. Builds everything anew in
# target/fuzz, for the code under test has to tell which of its branches it took.
set -eu
cd "$(dirname "$0")/.."

: "${MINUTES:=1}"
: "${TARGET:=$(basename -s .rs fuzz/fuzz_targets/*.rs)}"
CARGO_TARGET_DIR=$PWD/target/fuzz
export CARGO_TARGET_DIR

fail() {
    echo "fuzz: $*" >&2
    exit 1
}

command -v rustup >/dev/null 2>&1 || fail "needs rustup, for the nightly compiler; see https://rustup.rs"
rustup run nightly rustc --version >/dev/null 2>&1 || fail "needs the nightly compiler: rustup toolchain install nightly --profile minimal"
command -v cargo-fuzz >/dev/null 2>&1 || fail "needs cargo-fuzz: cargo install cargo-fuzz --locked"
command -v c++ >/dev/null 2>&1 || fail "needs a C++ compiler, for libFuzzer; Debian and Ubuntu: g++, Fedora: gcc-c++, macOS: xcode-select --install"

# The versions that the product is built with, and not the newest.
[ -e fuzz/Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock

for target in $TARGET; do
    [ -e "fuzz/fuzz_targets/$target.rs" ] || fail "there is no target $target in fuzz/fuzz_targets"
    echo "fuzz: $target for $MINUTES min" >&2
    mkdir -p "fuzz/corpus/$target"
    # No sanitizer: there is no unsafe code on these paths, and a panic is what is looked for.
    cargo +nightly fuzz run --dev --sanitizer none "$target" "fuzz/corpus/$target" "tests/corpus/$target" -- \
        -max_total_time=$((MINUTES * 60)) -timeout=10 -print_final_stats=1 ||
        fail "$target broke; the input is in fuzz/artifacts/$target"
done
echo "fuzz: nothing broke" >&2
