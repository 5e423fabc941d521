#!/usr/bin/env bash
# Everything that needs a GPU, in one go: the gpu tests, parity with NumPy, the bench against PyTorch, and Table 1.
#
#   tests/gpu/run_all.sh [--dry-run] [REPORT]        writes REPORT (docs/gpu-report.md), dated and with versions
#
#   DATA_DIR   the datasets' files, for Table 1; without it they are downloaded, and with SAMPLE=1 the sample is taken
#   SEEDS      seeds of Table 1 (1)                  JOBS   its runs side by side (3)
#   RUNS       the folder of its runs (runs/gpu): after a timeout the same command goes on from there
#   LIMIT      seconds that a part may take (600)    PYTHON (python3)
#
# A part that fails or takes too long does not stop the others. Exit status: 0 all passed, 1 a part failed or there is
# no GPU, 2 wrong arguments.
set -uo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }
complain() { printf 'run_all.sh: %s\n' "$*" >&2; }

dry_run=
report=docs/gpu-report.md
for argument in "$@"; do
    case $argument in
        -h | --help) usage && exit 0 ;;
        --dry-run) dry_run=yes ;;
        -*) complain "unknown argument $argument (--help lists them)" && exit 2 ;;
        *) report=$(realpath -m -- "$argument") ;;
    esac
done
data=()
[ -n "${DATA_DIR:-}" ] && data=(--data-dir "$(realpath -m -- "$DATA_DIR")")
[ -n "${SAMPLE:-}" ] && data=(--sample)
cd "$(dirname "$0")/../.." || exit 1

python=${PYTHON:-python3}
limit=${LIMIT:-600}
runs=${RUNS:-runs/gpu}
results=$(dirname -- "$report")/$(basename -- "$report" .md)-bench.json

names=("gpu tests" "parity with NumPy" "bench against PyTorch" "Table 1, seeds: ${SEEDS:-1}")
command_of() {  # sets `line` to the words of this part's command
    case $1 in
        0) line=("$python" -m pytest tests/gpu -m gpu -q -p no:cacheprovider) ;;
        1) line=("$python" -m minidl.parity --backend cupy) ;;
        2) line=("$python" -m minidl.bench --backend cupy --against torch --json "$results") ;;
        3) line=("$python" -m minidl.reproduce table1 --backend cupy --seeds "${SEEDS:-1}" --jobs "${JOBS:-3}"
            --out "$runs" "${data[@]}") ;;
    esac
}

if [ -n "$dry_run" ]; then
    for i in "${!names[@]}"; do
        command_of "$i"
        printf '%s, at most %s s: %s\n' "${names[$i]}" "$limit" "${line[*]}"
    done
    printf 'report: %s\n' "$report"
    exit 0
fi

reason=$("$python" -c 'from minidl.backend import why_no_cupy; print(why_no_cupy() or "")' 2>&1) || reason=${reason##*$'\n'}
if [ -n "$reason" ]; then
    complain "backend cupy cannot be used: $reason"
    exit 1
fi
mkdir -p -- "$(dirname -- "$report")" || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'stopped=yes' INT TERM
stopped=

versions() {
    printf -- '- date: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    "$python" - <<'PYTHON'
import platform
from importlib import metadata

import minidl
from minidl import device, use_backend
from minidl.reproduce.provenance import git_commit

with use_backend("cupy"):
    found = {"GPU": device.name(), "Python": platform.python_version(), **device.versions()}
for package in ("torch", "hypothesis", "pytest"):
    try:
        found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
        found[package] = "not installed"
found["minidl"] = f"{minidl.__version__}, commit {git_commit()}"
print("\n".join(f"- {name}: {value}" for name, value in found.items()))
PYTHON
    printf -- '- driver: %s\n' "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
    printf -- '- system: %s, %s cores\n' "$(uname -srm)" "$(nproc)"
}
versions >"$work/versions" 2>&1

failed=0
: >"$work/table"
: >"$work/parts"
for i in "${!names[@]}"; do
    command_of "$i"
    printf '\n== %s: %s\n' "${names[$i]}" "${line[*]}"
    start=$SECONDS
    if [ -n "$stopped" ]; then
        status=130
    else
        timeout --foreground --kill-after=60 "$limit" "${line[@]}" 2>&1 | tee "$work/log"
        status=${PIPESTATUS[0]}
    fi
    case $status in
        0) result=passed ;;
        124 | 137) result="FAILED: not done after $limit s" ;;
        130 | 143) result="FAILED: interrupted" ;;
        *) result="FAILED: exit status $status" ;;
    esac
    [ "$status" -eq 0 ] || failed=1
    printf '| %s | %s | %s s |\n' "${names[$i]}" "$result" "$((SECONDS - start))" >>"$work/table"
    {
        # shellcheck disable=SC2016 # the backticks are Markdown's
        printf '\n## %s\n\n`%s`\n\n```\n' "${names[$i]}" "${line[*]}"
        tail -n 150 "$work/log" 2>/dev/null
        # shellcheck disable=SC2016
        printf '```\n'
    } >>"$work/parts"
    rm -f "$work/log"
done

{
    printf '# What was measured on a GPU\n\nWritten by tests/gpu/run_all.sh.\n\n'
    cat "$work/versions"
    printf '\n| part | result | time |\n|---|---|---|\n'
    cat "$work/table" "$work/parts"
} >"$report" || exit 1
printf '\n'
cat "$work/table"
printf 'report: %s\n' "$report"
exit "$failed"
