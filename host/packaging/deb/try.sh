#!/bin/bash
# Tries the Debian package in a root of its own, under a systemd of its own: installs it in a clean minimal Debian, boots that, and has
# trial/inside.sh do there what docs/how-to/run-a-service.md says.
#
#   host/packaging/deb/try.sh BINARY CACHE
#   host/packaging/deb/try.sh --root CACHE         makes that root, and tries whether this machine can boot it
#
# Needs root, debootstrap, systemd-nspawn (systemd-container), dpkg-deb, and, the first time, a Debian mirror: that of apt, or SUITE and MIRROR. CACHE is a
# directory that keeps the minimal root (some 260 MB) for the next time. Prints a line "ok: …" for each thing that held. Exit 0 when all did, 77 when this machine
# cannot do it.
set -euo pipefail
umask 022

fail() {
    echo "try.sh: $*" >&2
    exit 1
}

cannot() {
    echo "try.sh: $*" >&2
    exit 77
}

[ $# -eq 2 ] || fail "usage: try.sh BINARY CACHE | try.sh --root CACHE"
binary=$1
cache=$2
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
# Seconds for a boot, some starts of a host and some jobs, by a program that was built for debugging.
LIMIT=300

[ "$(id -u)" = 0 ] || cannot "only root can boot a system in a directory"
for program in debootstrap systemd-nspawn dpkg-deb; do
    command -v $program > /dev/null || cannot "$program is missing: apt-get install debootstrap systemd-container dpkg"
done
[ "$binary" = --root ] || [ -x "$binary" ] || fail "$binary: there is no such program"

# The Debian of this machine, from where its apt takes it.
suite=${SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-}")}
mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2> /dev/null \
    | awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }')}
mkdir -p "$cache"
# What a run left that was killed.
find "$cache" -maxdepth 1 -name '*.??????' -mmin +60 -exec rm -rf {} +
base=$cache/$suite
if [ ! -d "$base" ]; then
    [ -n "$suite" ] && [ -n "$mirror" ] || cannot "apt of this machine knows no mirror of its own release: name them in SUITE and MIRROR"
    unfinished=$(mktemp -d "$cache/unfinished.XXXXXX")
    # It becomes "/", which is everybody's to enter. For root alone, as mktemp makes it, the bus does not start, and nothing after it.
    chmod 755 "$unfinished"
    if ! debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,adduser,man-db "$suite" "$unfinished" "$mirror" > "$cache/debootstrap.log" 2>&1; then
        tail -n 5 "$cache/debootstrap.log" >&2
        rm -rf "$unfinished"
        cannot "debootstrap cannot make a root of $suite from $mirror"
    fi
    rm -rf "$unfinished"/var/cache/apt/archives/*.deb "$unfinished"/var/lib/apt/lists/*
    # Another run may have been faster.
    mv -T "$unfinished" "$base" 2> /dev/null || rm -rf "$unfinished"
fi

# Nothing of this machine but what is bound, not its network either.
boot() { systemd-nspawn --quiet --private-network --register=no --keep-unit --machine="strongroom-trial-$$" "$@" < /dev/null; }
boot --directory="$base" --read-only /bin/true > "$cache/boot.log" 2>&1 || cannot "systemd-nspawn cannot run a program in a root of its own here: $(tail -n 1 "$cache/boot.log")"
[ "$binary" != --root ] || exit 0

room=$(mktemp -d "$cache/room.XXXXXX")
# What a killed container still holds goes with the next cleaning of the target directory.
trap 'rm -rf "$room" 2> /dev/null || true' EXIT
root=$room/root
check=$room/check
mkdir "$check"
cp -a --reflink=auto "$base" "$root"

# The package, and the next version of it.
export DPKG_DEB_COMPRESSOR_TYPE=none
package=$("$here/build.sh" "$binary" "$check")
dpkg-deb -R "$package" "$room/next"
sed -i 's/^Version: .*/&+next/' "$room/next/DEBIAN/control"
dpkg-deb --root-owner-group --build "$room/next" "$check/next.deb" > /dev/null
rm -rf "$room/next"
mv "$package" "$check/this.deb"

cp "$here/trial/inside.sh" "$top/examples/prebuilt/wordcount.wasm" "$check"
cp -r "$top/docs" "$check/docs"
mkdir -p "$root/check"
cat > "$root/etc/systemd/system/trial.service" << 'UNIT'
[Unit]
Description=Tries the package
After=multi-user.target
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
ExecStart=/bin/bash /check/inside.sh
StandardOutput=append:/check/said
StandardError=append:/check/said
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../trial.service "$root/etc/systemd/system/default.target.wants/trial.service"

touch "$check/said"
# By itself it lets Landlock's calls through to no program, and the host could not confine itself whole.
calls='landlock_create_ruleset landlock_add_rule landlock_restrict_self'
export -f boot
timeout --kill-after=10 $LIMIT bash -c 'boot "$@"' - --directory="$root" --bind="$check:/check" --system-call-filter="$calls" --console=pipe --boot \
    > "$check/console" 2>&1 || true
cat "$check/said"
# What inside.sh writes first, before it looks at the package: without it, nothing of the package was tried.
[ -e "$check/before" ] || cannot "the clean Debian does not boot to its end within $LIMIT s here: $(tail -n 1 "$check/console")"
if [ "$(cat "$check/result" 2> /dev/null)" != good ]; then
    tail -n 40 "$check/console" >&2
    fail "the package does not hold what it promises; the last line above says where it ended"
fi
