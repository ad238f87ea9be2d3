#!/bin/sh
# Makes strongroom_VERSION_ARCH.deb of a binary that is built already.
#
#   host/packaging/deb/build.sh BINARY DESTINATION
#
# Needs dpkg-deb and gzip, and no root. The same binary, unit and SOURCE_DATE_EPOCH give the same bytes.
set -eu
umask 022

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: build.sh BINARY DESTINATION"
binary=$1
destination=$2
here=$(cd "$(dirname "$0")" && pwd)
unit=$here/../strongroom.service
sockets=$here/../strongroom.socket

[ -x "$binary" ] || fail "$binary: there is no such program; build it with: cargo build --release"
[ -f "$unit" ] || fail "$unit: the systemd unit is missing; without it the package would install no service"
[ -f "$sockets" ] || fail "$sockets: the unit of the sockets is missing"
[ -d "$destination" ] || fail "$destination: there is no such directory"
command -v dpkg-deb > /dev/null || fail "dpkg-deb is missing: it is in the package dpkg"

version=$("$binary" --version | cut -d ' ' -f 2)
architecture=$(dpkg --print-architecture)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
root=$room/root

install -D -m 755 "$binary" "$root/usr/bin/strongroom"
install -D -m 644 "$unit" "$root/lib/systemd/system/strongroom.service"
install -D -m 644 "$sockets" "$root/lib/systemd/system/strongroom.socket"
"$binary" man "$root/usr/share/man/man1" > /dev/null
gzip -9 -n "$root"/usr/share/man/man1/*.1
for shell in bash zsh fish; do
    case $shell in
        bash) script=$root/usr/share/bash-completion/completions/strongroom ;;
        zsh) script=$root/usr/share/zsh/vendor-completions/_strongroom ;;
        fish) script=$root/usr/share/fish/vendor_completions.d/strongroom.fish ;;
    esac
    mkdir -p "$(dirname "$script")"
    "$binary" completions $shell > "$script"
done
# For the notes of the licence and the changes; they are beside the project's root.
install -D -m 644 "$here/../../../CHANGELOG.md" "$root/usr/share/doc/strongroom/changelog"
gzip -9 -n "$root/usr/share/doc/strongroom/changelog"

mkdir -p "$root/DEBIAN"
cat > "$root/DEBIAN/control" << CONTROL
Package: strongroom
Version: $version
Architecture: $architecture
Maintainer: The Strongroom authors <strongroom@strongroom.invalid>
Section: admin
Priority: optional
Depends: libc6 (>= 2.34), adduser
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Description: runs other people's WebAssembly without trusting it
 Signed jobs come in over QUIC, run in a sandbox within stated limits, and
 leave a log that proves what happened.
CONTROL
for script in postinst prerm postrm; do
    install -m 755 "$here/$script" "$root/DEBIAN/$script"
done

made=$destination/strongroom_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$made" > /dev/null
echo "$made"
