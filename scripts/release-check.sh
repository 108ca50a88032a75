#!/bin/sh
# Checks before a release whatever can be checked without making one: the crate's package, the policy for dependencies, the declarations of
# the deb and rpm packages, charts, systemd units, workflows, scripts, the Dockerfile, the image, the versions that have to agree.
# Publishes nothing. A check whose tool is missing is listed at the end; with OUTBOXD_RELEASE_REQUIRE_ALL=1 it is a failure.
# OUTBOXD_RELEASE_TAG=v1.2.3 demands that every version is that of the tag and that CHANGELOG.md has a section for it.
# OUTBOXD_ADVISORY_DB names a directory with a copy of the RustSec database, in place of the network.
set -u
cd "$(dirname "$0")/.." || exit 1

tools=${OUTBOXD_TOOLS:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/outboxd/tools}
export PATH="$PATH:$tools/parcel-1/bin:$tools/bin"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed='' skipped=''

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a check; shows its output only if it fails.
check() {
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        printf 'release-check: %-46s passed\n' "$name"
    else
        printf 'release-check: %-46s FAILED\n' "$name"
        sed 's/^/    /' "$log"
        failed="$failed, $name"
    fi
}

# Notes that a check could not be made, and why.
skip() {
    printf 'release-check: %-46s not checked: %s\n' "$1" "$2"
    skipped="$skipped, $1"
}

# --- the crate ----------------------------------------------------------------------------------------------------

# Everything that the crate compiles in has to be in its package, and nothing of our workshop.
package_is_complete() {
    cargo package --list --locked --allow-dirty >"$log.list" || return 1
    for file in Cargo.toml Cargo.lock README.md LICENSE-MIT LICENSE-APACHE src/lib.rs migrations/0001_outbox.sql config/outboxd.toml; do
        grep -qx "$file" "$log.list" || { echo "$file is not in the package"; return 1; }
    done
    if grep -E '^(\.ci|\.github|fuzz|target)/' "$log.list"; then echo "these do not belong into the package"; return 1; fi
    # What the registry takes at most is 10 MiB compressed.
    size=$(xargs -I{} cat {} <"$log.list" 2>/dev/null | gzip -c | wc -c)
    rm -f "$log.list"
    [ "$size" -lt 8388608 ] || { echo "the package has $size bytes, compressed"; return 1; }
}
check "the crate's package" package_is_complete
if have git && cargo info --quiet serde >/dev/null 2>&1; then
    check "cargo publish --dry-run" cargo publish --dry-run --no-verify --locked --allow-dirty --quiet
else
    skip "cargo publish --dry-run" "the registry cannot be reached"
fi

# --- versions -----------------------------------------------------------------------------------------------------

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
versions_agree() {
    result=0
    for place in \
        "deploy/helm/outboxd/Chart.yaml:version: $version" "deploy/helm/outboxd/Chart.yaml:appVersion: $version" \
        "deploy/kustomize/base/kustomization.yaml:newTag: $version" "deploy/kustomize/production/kustomization.yaml:newTag: $version" \
        "deploy/kustomize/shop-with-sidecar/kustomization.yaml:newTag: $version" "Dockerfile:ARG VERSION=$version" "CHANGELOG.md:$version"; do
        grep -qF "${place#*:}" "${place%%:*}" || { echo "${place%%:*} does not say \"${place#*:}\", the version of Cargo.toml"; result=1; }
    done
    if [ -n "${OUTBOXD_RELEASE_TAG:-}" ]; then
        [ "$OUTBOXD_RELEASE_TAG" = "v$version" ] || { echo "the tag is $OUTBOXD_RELEASE_TAG, the version is $version"; result=1; }
        sh scripts/release-notes.sh "$version" || result=1
    fi
    return $result
}
check "versions agree" versions_agree

# --- dependencies -------------------------------------------------------------------------------------------------

deny() {
    if [ -n "${OUTBOXD_ADVISORY_DB:-}" ]; then
        sed "s#^\[advisories\]#[advisories]\ndb-path = \"$OUTBOXD_ADVISORY_DB\"\nmaximum-db-staleness = \"P1Y\"#" deny.toml >"$log.toml"
        cargo deny --offline --locked --config "$log.toml" check --hide-inclusion-graph "$@"
    else
        cargo deny --locked check --hide-inclusion-graph "$@"
    fi
    result=$?
    rm -f "$log.toml"
    return $result
}
if have cargo-deny; then
    check "cargo deny: licences, duplicates, sources" deny bans licenses sources
    if [ -n "${OUTBOXD_ADVISORY_DB:-}" ] || cargo deny fetch >/dev/null 2>&1; then
        check "cargo deny: advisories" deny advisories
    else
        skip "cargo deny: advisories" "the RustSec database cannot be fetched; OUTBOXD_ADVISORY_DB can name a copy"
    fi
else
    skip "cargo deny" "cargo install cargo-deny --locked"
fi

# --- packages -----------------------------------------------------------------------------------------------------

# Every file that the deb and rpm packages declare exists; those that a build makes are left out.
declared_files_exist() {
    result=0
    sed -n '/^\[package.metadata.deb\]/,/^\[lints/s/.*source = "\([^"]*\)".*/\1/p' Cargo.toml >"$log.sources"
    while read -r source; do
        case $source in target/*) continue ;; esac
        # Unquoted on purpose: the pattern is expanded.
        # shellcheck disable=SC2086
        ls $source >/dev/null 2>&1 || { echo "Cargo.toml names $source, which is not there"; result=1; }
    done <"$log.sources"
    rm -f "$log.sources"
    return $result
}
check "files of the deb and rpm packages" declared_files_exist

# --- Kubernetes, systemd, workflows, scripts ----------------------------------------------------------------------

if have python3 && [ -x "$tools/parcel-1/bin/python3" ]; then
    check "Helm chart and kustomizations" sh -c "'$tools/parcel-1/bin/python3' scripts/render-kubernetes.py >/dev/null"
else
    skip "Helm chart and kustomizations" "make install-tools"
fi
if have systemd-analyze; then
    check "systemd unit" sh scripts/check-unit.sh
else
    skip "systemd unit" "systemd-analyze is not here"
fi
if have actionlint; then check "workflows" actionlint; else skip "workflows" "make install-tools"; fi
if have shellcheck; then check "scripts" shellcheck --severity=warning scripts/*.sh .ci/run; else skip "scripts" "shellcheck is not here"; fi
if have hadolint; then
    # Packages of the build stage come from the release of Debian that the base names by its version.
    check "Dockerfile" hadolint --ignore DL3008 Dockerfile
else
    skip "Dockerfile" "make install-tools"
fi
if [ -x target/dist/outboxd ] || [ -x target/release/outboxd ] || [ -x target/debug/outboxd ]; then
    check "image root" sh scripts/check-image.sh
else
    skip "image root" "there is no binary; cargo build"
fi

# --- the end ------------------------------------------------------------------------------------------------------

if [ -n "$failed" ]; then echo "release-check: failed: ${failed#, }"; exit 1; fi
if [ -n "$skipped" ]; then
    echo "release-check: passed, without: ${skipped#, }"
    [ "${OUTBOXD_RELEASE_REQUIRE_ALL:-}" = 1 ] && exit 1
    exit 0
fi
echo "release-check: passed"
