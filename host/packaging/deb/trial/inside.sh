#!/bin/bash
# What try.sh has done inside the clean root, by root, under that root's own systemd. The first thing that does not hold ends it.
set -euo pipefail
export LC_ALL=C.UTF-8 TERM=dumb SYSTEMD_PAGER=

HOME_OF_SERVICE=/var/lib/strongroom
ROOM=$HOME_OF_SERVICE/room
# Looks at something that takes a while, half a second apart.
LOOKS=120

ended() {
    code=$?
    [ "$code" = 0 ] && return
    echo "ENDED with $code in line $1"
    journalctl --no-pager -n 40 -u strongroom.service -u strongroom.socket 2>&1 || true
}
trap 'ended $LINENO' EXIT
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND"' ERR
ok() { echo "ok: $*"; }
fail() {
    echo "FAILED: $*"
    exit 1
}
is() { [ "$2" = "$3" ] || fail "$1: $2, and should be $3"; }
has() { case $2 in *"$3"*) ;; *) fail "$1: not \"$3\" in: $2" ;; esac; }
as_user() { runuser -u strongroom -- strongroom --dir "$ROOM" "$@"; }
state() { systemctl is-active "strongroom.$1" || true; }
pid() { systemctl show -p MainPID --value strongroom.service; }
eventually() {
    local what=$1 look
    shift
    for look in $(seq $LOOKS); do
        if "$@"; then return; fi
        sleep 0.5
    done
    fail "waited in vain for $what"
}
root_of() { sed -n 2,3p "$1/audit/checkpoint"; }
# All files that a package could leave; not what a running system writes by itself.
files() {
    find / -xdev \( -path /check -o -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log \
        -o -path /var/cache -o -path /var/lib/systemd -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /etc/machine-id \) -prune -o -print | sort
}
main_job() {
    as_user submit /check/wordcount.wasm --host 127.0.0.1:7433 --wait --read docs:/docs "$@" -- /docs | xargs
}

files > /check/before
is "the user before" "$(getent passwd strongroom || echo none)" none

# -- install
dpkg -i /check/this.deb > /dev/null 2>&1
is "the shell of the user" "$(getent passwd strongroom | cut -d: -f7)" /usr/sbin/nologin
is "the directory" "$(stat -c '%a %U %G' $HOME_OF_SERVICE)" "700 strongroom strongroom"
is "started" "$(state service) $(state socket)" "inactive inactive"
is "enabled" "$(systemctl is-enabled strongroom.service || true)" disabled
is "enabled" "$(systemctl is-enabled strongroom.socket || true)" disabled
has "the manual" "$(man -P cat strongroom-serve 2> /dev/null)" "serve"
bash -n /usr/share/bash-completion/completions/strongroom
[ -s /usr/share/zsh/vendor-completions/_strongroom ] && [ -s /usr/share/fish/vendor_completions.d/strongroom.fish ]
said=$(systemd-analyze verify strongroom.service strongroom.socket 2>&1 | grep strongroom || true)
is "what systemd says of the units" "$said" ""
ok "installed: user, directory, units that are not started, manual, completions"

# -- first start, as the guide says
as_user init > /dev/null
is "the configuration" "$(stat -c '%a %U' $ROOM/strongroom.toml)" "600 strongroom"
cp -r /check/docs /srv/docs
sed -i -e 's/^any_directory = true/volumes = { docs = "read" }/' -e 's/^any_network = true//' $ROOM/strongroom.toml
sed -i 's/^# \[volumes.data\]/[volumes.docs]\npath = "\/srv\/docs"\n&/' $ROOM/strongroom.toml
as_user config check > /dev/null
systemctl enable --now --quiet strongroom.service
is "the service" "$(state service)" active
ok "the unit is started by systemd $(systemctl --version | head -n 1 | cut -d ' ' -f 2): $(systemctl show -p StatusText --value strongroom.service)"

# -- what the unit and the host took from the process
main=$(pid)
status=$(cat "/proc/$main/status")
value() { echo "$status" | awk -v key="$1:" '$1 == key { print $2 }'; }
is "the user" "$(stat -c %U "/proc/$main")" strongroom
is "capabilities" "$(value CapEff) $(value CapBnd)" "0000000000000000 0000000000000000"
is "new privileges, filters" "$(value NoNewPrivs) $(value Seccomp)" "1 2"
for place in /usr/x /etc/x /srv/x /var/lib/x; do
    if nsenter -t "$main" -m touch $place 2> /dev/null; then fail "$place can be written in the service's world"; fi
done
nsenter -t "$main" -m touch $HOME_OF_SERVICE/x && rm $HOME_OF_SERVICE/x
if nsenter -t "$main" -m test -e /check; then nsenter -t "$main" -m test ! -w /check/before || fail "/check can be written"; fi
[ "$(readlink "/proc/$main/ns/mnt")" != "$(readlink /proc/1/ns/mnt)" ] || fail "no mounts of its own"
confined=$(journalctl --no-pager -o cat -u strongroom.service | grep -c 'cannot confine the host' || true)
ok "not root, no capabilities, filtered, read-only but for its directory; warnings of its own confinement: $confined"
exposure=$(systemd-analyze security --no-pager strongroom.service | sed -n 's/.*Overall exposure level for strongroom.service: \([0-9.]*\).*/\1/p')
awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure <= 2.0) }' || fail "systemd-analyze security: $exposure"
ok "systemd-analyze security of the loaded unit: $exposure"

# -- the main job
counted=$(main_job)
is "the words of docs/" "$counted" "$(find /srv/docs -type f -exec cat {} + | wc | xargs)"
ok "the main job: $counted, as wc says"
has "status" "$(as_user status)" "health    ready"

# -- reload
echo '# a change' >> $ROOM/strongroom.toml
systemctl reload strongroom.service
has "reload" "$(as_user reload)" "in force: no principal differs"
cp -a $ROOM/strongroom.toml $ROOM/good
echo 'nonsense = 1' >> $ROOM/strongroom.toml
if systemctl reload strongroom.service 2> /dev/null; then fail "a wrong configuration was read"; fi
refused=$(as_user reload 2>&1) && fail "a wrong configuration was read" || true
has "the refusal" "$refused" "nonsense"
is "the service" "$(state service) $(pid)" "active $main"
mv $ROOM/good $ROOM/strongroom.toml
ok "reload: a good configuration is taken, a wrong one is refused by systemctl and by the socket, and the host goes on"

# -- back up, restore
published() { root_of $ROOM > /check/live; sleep 0.5; [ "$(root_of $ROOM)" = "$(cat /check/live)" ]; }
eventually "a log that stands still" published
install -d -m 700 -o strongroom -g strongroom $HOME_OF_SERVICE/copies
runuser -u strongroom -- strongroom backup --dir $ROOM --with-keys $HOME_OF_SERVICE/copies/one > /dev/null
runuser -u strongroom -- strongroom restore --dir $HOME_OF_SERVICE/again $HOME_OF_SERVICE/copies/one > /dev/null
is "the restored log" "$(root_of $HOME_OF_SERVICE/again | xargs)" "$(xargs < /check/live)"
runuser -u strongroom -- strongroom audit verify --dir $HOME_OF_SERVICE/again > /dev/null
runuser -u strongroom -- strongroom fsck --dir $HOME_OF_SERVICE/again > /dev/null
rm -r $HOME_OF_SERVICE/again $HOME_OF_SERVICE/copies
ok "backup, restore: the same root, $(xargs < /check/live)"

# -- upgrade of a running one
jobs() { as_user job list --json | grep -c '"succeeded\|"finished\|"exited' || true; }
before=$(as_user job list)
dpkg -i /check/next.deb > /dev/null 2>&1
eventually "the service after the upgrade" test "$(state service)" = active
[ "$(pid)" != "$main" ] || fail "the old program still serves"
is "the version" "$(dpkg-query -W -f '${Version}' strongroom | grep -c '+next$')" 1
is "jobs after the upgrade" "$(as_user job list)" "$before"
is "a job after the upgrade" "$(main_job)" "$counted"
as_user audit verify > /dev/null
ok "upgrade: the service was started again, its jobs and its log are there"

# -- sockets of systemd
systemctl stop strongroom.service
systemctl start strongroom.socket
is "the service" "$(state service)" inactive
[ -S $ROOM/admin.sock ]
is "the socket" "$(stat -c '%a %U' $ROOM/admin.sock)" "600 strongroom"
is "a job that starts the service" "$(main_job)" "$counted"
main=$(pid)
has "its log" "$(journalctl --no-pager -o cat -u strongroom.service)" "these sockets were made by the service manager"
has "status over systemd's socket" "$(as_user status)" "health    ready"
# A job that comes while the host is started again waits in the socket.
systemctl restart --no-block strongroom.service
is "a job during a restart" "$(main_job)" "$counted"
eventually "another process" test "$(pid)" != "$main"
systemctl stop strongroom.socket strongroom.service 2> /dev/null
[ ! -e $ROOM/admin.sock ]
ok "socket activation: a datagram starts the service, a restart loses no client, both sockets are systemd's"

sed -i 's/^listen = "127.0.0.1:7433"/listen = "127.0.0.1:7434"/' $ROOM/strongroom.toml
systemctl start strongroom.socket
if systemctl start strongroom.service 2> /dev/null; then fail "it serves at a port that the configuration does not name"; fi
has "why" "$(journalctl --no-pager -o cat -u strongroom.service)" "ListenDatagram=127.0.0.1:7434"
systemctl stop strongroom.socket strongroom.service 2> /dev/null
systemctl reset-failed strongroom.service
ok "sockets that the configuration does not name: refused, with what to write"

# -- a port that needs a privilege, which the host never has
sed -i 's/^listen = "127.0.0.1:7434"/listen = "127.0.0.1:443"/' $ROOM/strongroom.toml
if systemctl start strongroom.service 2> /dev/null; then fail "it has a privilege"; fi
systemctl reset-failed strongroom.service
mkdir -p /etc/systemd/system/strongroom.socket.d
printf '[Socket]\nListenDatagram=\nListenDatagram=127.0.0.1:443\nListenStream=%s\n' $ROOM/admin.sock > /etc/systemd/system/strongroom.socket.d/override.conf
systemctl daemon-reload
systemctl start strongroom.socket
is "a job over port 443" "$(as_user submit /check/wordcount.wasm --host 127.0.0.1:443 --host-key "$(cat $ROOM/keys/host.pub)" --wait --read docs:/docs -- /docs | xargs)" "$counted"
systemctl stop strongroom.socket strongroom.service 2> /dev/null
rm -r /etc/systemd/system/strongroom.socket.d
systemctl daemon-reload
sed -i 's/^listen = "127.0.0.1:443"/listen = "127.0.0.1:7433"/' $ROOM/strongroom.toml
ok "port 443, by a drop-in for the socket"

# -- remove, purge
systemctl enable --now --quiet strongroom.socket
systemctl start strongroom.service
dpkg -r strongroom > /dev/null 2>&1
is "the service" "$(state service) $(state socket)" "inactive inactive"
[ ! -e /usr/bin/strongroom ] && [ ! -e /lib/systemd/system/strongroom.service ]
[ -s $ROOM/audit/checkpoint ] && [ -s $ROOM/keys/host.key ]
ok "removed: stopped, and its directory is kept"
dpkg -P strongroom > /dev/null 2>&1
[ ! -e $HOME_OF_SERVICE ]
is "the user after" "$(getent passwd strongroom || echo none)" none
rm -r /srv/docs
files > /check/after
# The copies that adduser and deluser keep of what they changed.
left=$(diff /check/before /check/after | grep '^[<>]' | grep -vE '/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$' || true)
[ -z "$left" ] || fail "left behind: $left"
ok "purged: no file, no user is left"
echo good > /check/result
