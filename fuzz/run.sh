#!/bin/bash
# Runs the targets of cargo-fuzz one after another and prints a table of what they did (docs/fuzzing.md).
#   fuzz/run.sh [TARGET [RUNS]]
# SEED=7 repeats the choices of a run that began with the same corpus. SANITIZER=address looks at memory, too, and is
# slower. MAX_LEN is the longest input.
set -euo pipefail
cd -- "$(dirname -- "$0")"

target=${1:-} runs=${2:-1000000} seed=${SEED:-$RANDOM} sanitizer=${SANITIZER:-none} max_len=${MAX_LEN:-4096}

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: needs a nightly Rust: rustup toolchain install nightly --profile minimal" >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: needs cargo-fuzz: cargo install --locked cargo-fuzz" >&2
    exit 1
fi
# The dependencies are those of the program; only what cargo-fuzz needs itself is added.
cp ../Cargo.lock Cargo.lock
known=$(cargo +nightly fuzz list --fuzz-dir .)
if [ -n "$target" ] && ! grep -qx "$target" <<<"$known"; then
    echo "fuzz: there is no target $target; there are" $known >&2
    exit 1
fi
mkdir -p logs
cargo +nightly fuzz build --fuzz-dir . --sanitizer "$sanitizer" ${target:+"$target"}

echo "fuzz: seed $seed, sanitizer $sanitizer, inputs of up to $max_len bytes"
echo "| target | executions | seconds | crashes | most memory held, of what is allowed |"
echo "|---|---|---|---|---|"
failed=0
for name in ${target:-$known}; do
    crashes=0
    cargo +nightly fuzz run --fuzz-dir . --sanitizer "$sanitizer" "$name" -- -runs="$runs" -max_len="$max_len" \
        -seed="$seed" -timeout=20 -print_final_stats=1 >"logs/$name.log" 2>&1 || crashes=1
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "logs/$name.log" | tail -1)
    seconds=$(sed -n 's/^Done .* in \([0-9]*\) second.*/\1/p' "logs/$name.log" | tail -1)
    memory=$(sed -n "s/^memory: $name held \([0-9]*\) bytes for an input of \([0-9]*\), \([0-9]*\) allowed/\1 \2 \3/p" \
        "logs/$name.log" | awk '$1 / $3 > most { most = $1 / $3; line = $0 }
            END { split(line, n, " "); printf "%d %%: %d bytes for an input of %d", 100 * most, n[1], n[2] }')
    echo "| $name | ${executions:-?} | ${seconds:-?} | $crashes | $memory |"
    if [ $crashes -ne 0 ]; then
        failed=1
        echo "fuzz: $name failed; the end of fuzz/logs/$name.log:" >&2
        tail -n 30 "logs/$name.log" >&2
    fi
done
exit $failed
