#!/bin/sh
# Breaks outboxd on purpose, one promise at a time, and demands that a test notices: a test that cannot fail proves nothing.
# Each file of tests/mutants is one mutation; `# caught-by: <test>` in its head names the test that has to fail, by a panic of its own.
# Arguments choose mutations by the beginning of their names: `sh scripts/mutants.sh 03 08`. The checkout is not touched: patches are
# applied to a copy in target/mutants, whose own build directory stays, so that each of them costs one incremental build. What is
# changed and not committed is part of the copy, what git does not know is not. The output of every run is left in target/mutants/logs.
set -eu
cd "$(dirname "$0")/.."

# A test that waits for what will not come gives up after so many seconds; what has hung for this long is ended.
: "${OUTBOXD_TEST_DEADLINE:=20}"
LIMIT=300
# Without a program that it needs a test passes over itself, and would seem to have noticed nothing.
OUTBOXD_TEST_REQUIRE_ALL=1
export OUTBOXD_TEST_DEADLINE OUTBOXD_TEST_REQUIRE_ALL

patches=$PWD/tests/mutants
place=$PWD/target/mutants
tree=$place/tree
logs=$place/logs
table=$place/table.txt
CARGO_TARGET_DIR=$place/target
export CARGO_TARGET_DIR

fail() {
    echo "mutants: $*" >&2
    exit 1
}

# A copy of the checkout as it is now. Files that are the same keep their times, so that nothing is built twice.
copy() {
    commit=$(git stash create)
    commit=${commit:-HEAD}
    git worktree prune
    mkdir -p "$logs"
    [ -e "$tree/.git" ] || git worktree add --quiet --detach "$tree" HEAD
    commit=$(git rev-parse "$commit")
    git -C "$tree" reset --quiet --hard
    git -C "$tree" clean --quiet -fd
    git -C "$tree" checkout --quiet --detach "$commit"
    # Where `make install-tools` has put the clients that tests of brokers read with.
    mkdir -p "$tree/target"
    ln -sfn "$PWD/target/clients" "$tree/target/clients"
}

chosen() {
    [ $# -gt 0 ] || set -- ""
    for beginning in "$@"; do
        # Names of patches are ours and have no blanks.
        # shellcheck disable=SC2010
        found=$(ls "$patches" | grep "^$beginning.*\.patch$") || fail "there is no mutation $beginning in tests/mutants"
        echo "$found"
    done
}

catchers() {
    sed -n 's/^# caught-by: //p' "$patches/$1"
}

# Tests of the library stand beside its code, all others in tests/it.
part_of() {
    if grep -rqE "fn $1\(" tests/it; then echo "--test it"; else echo "--lib"; fi
}

build() {
    # shellcheck disable=SC2046
    (cd "$tree" && cargo test --quiet --no-run $(part_of "$1")) >"$2" 2>&1
}

run() {
    bounded=
    ! command -v timeout >/dev/null 2>&1 || bounded="timeout -k 10 $LIMIT"
    # shellcheck disable=SC2046,SC2086
    (cd "$tree" && $bounded cargo test $(part_of "$1") -- "$1") >"$2" 2>&1
}

passed() {
    grep -qE "^test (.*::)?$1 \.\.\. ok$" "$2"
}

# Its own panic: not a compiler, a linker or a killed process. A test that runs alone does so in the main thread.
failed() {
    grep -qE "^test (.*::)?$1 \.\.\. FAILED$" "$2" && grep -qE "^thread '(main|(.*::)?$1)'.* panicked at " "$2"
}

# Unless the tests pass without a mutation, their failing with one says nothing.
check_unmutated() {
    for test in $(for mutation in $mutations; do catchers "$mutation"; done | sort -u); do
        log=$logs/unmutated-$test.log
        build "$test" "$log" || fail "it does not build without any mutation, see $log"
        run "$test" "$log" || fail "$test fails without any mutation, see $log"
        passed "$test" "$log" || fail "there is no test $test, see $log"
    done
}

# One line of the table. Fails if the mutation survives.
meet() {
    mutation=$1 test=$2
    name=${mutation%.patch}
    log=$logs/$name-$test.log
    began=$(date +%s)
    build "$test" "$log" || fail "$name does not build, so it proves nothing, see $log"
    code=0
    run "$test" "$log" || code=$?
    seconds=$(($(date +%s) - began))
    verdict=0
    if [ $code -eq 124 ] || [ $code -eq 137 ]; then
        caught="$test, ended after $LIMIT s"
    elif [ $code -ne 0 ] && failed "$test" "$log"; then
        caught=$test
    elif passed "$test" "$log"; then
        caught="NOBODY: $test passes" verdict=1
    else
        fail "$name: $test neither passed nor failed by a panic of its own, see $log"
    fi
    echo "$name | $caught | $seconds" | tee -a "$table"
    return $verdict
}

mutations=$(chosen "$@")
copy
for mutation in $mutations; do
    [ -n "$(catchers "$mutation")" ] || fail "$mutation does not say which test has to catch it"
    git -C "$tree" apply --check "$patches/$mutation" || fail "$mutation does not apply any more; make it anew"
done
echo "mutants: running the tests without any mutation" >&2
check_unmutated

: >"$table"
survivors=0
echo "mutation | caught by | seconds"
for mutation in $mutations; do
    git -C "$tree" apply "$patches/$mutation"
    for test in $(catchers "$mutation"); do
        meet "$mutation" "$test" || survivors=$((survivors + 1))
    done
    git -C "$tree" apply --reverse "$patches/$mutation"
done
[ $survivors -eq 0 ] || fail "$survivors not caught: a promise that no test holds"
echo "mutants: every mutation was caught" >&2
