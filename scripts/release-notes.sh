#!/bin/sh
# Prints the section of CHANGELOG.md about a version; fails if there is none, because a release without notes helps nobody.
#   release-notes.sh 0.1.0
set -eu
cd "$(dirname "$0")/.."

version=${1:?usage: release-notes.sh VERSION}
notes=$(awk -v heading="## [$version]" '
    index($0, heading) == 1 { inside = 1; next }
    /^## / { inside = 0 }
    inside { print }
' CHANGELOG.md)
if [ -z "$(printf '%s' "$notes" | tr -d '[:space:]')" ]; then
    echo "release-notes: CHANGELOG.md has no section \"## [$version]\"; turn \"## [Unreleased]\" into \"## [$version] - $(date +%F)\"" >&2
    exit 1
fi
printf '%s\n' "$notes"
