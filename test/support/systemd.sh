#!/bin/sh
# Runs the commands of standard input beside a systemd of their own: systemd.sh PACKAGE NODE
# It is a user's, with no other units than ours, in a control group and namespaces that go with it.
set -eu
package=$1
node=$2

if [ "${3-}" != inside ]; then
  groups=
  for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    group=$hierarchy/asyncnbd-test-$$
    mkdir "$group"
    groups="$groups $group"
  done
  status=0
  GROUPS_OF_TEST=$groups unshare --mount sh "$0" "$package" "$node" inside || status=$?
  # Its processes have ended, but the kernel may not have noticed.
  for group in $groups; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.1
    done
  done
  exit "$status"
fi

for group in $GROUPS_OF_TEST; do
  echo $$ > "$group/cgroup.procs"
done
mount -t tmpfs tmpfs /run
# Units hide home directories, in one of which the clone or Node may lie.
mkdir -p /run/systemd/system /run/package /run/node /run/home /run/conf /run/xdg/systemd/user
mount --bind "$package" /run/package
# What units must not see is covered by these, which the first process of a system makes.
mkdir -p /run/systemd/inaccessible/dir
touch /run/systemd/inaccessible/reg
mkfifo /run/systemd/inaccessible/fifo
mknod /run/systemd/inaccessible/chr c 0 0 2>/dev/null || : # a file does as well
mknod /run/systemd/inaccessible/blk b 0 0 2>/dev/null || :
chmod 0 /run/systemd/inaccessible/*
mount --bind "$(dirname "$node")" /run/node
export XDG_RUNTIME_DIR=/run/xdg HOME=/run/home PATH="/run/node:$PATH"
unset XDG_CONFIG_HOME XDG_STATE_HOME XDG_CACHE_HOME NOTIFY_SOCKET LISTEN_FDS LISTEN_PID
cp "$package"/packaging/asyncnbd@.* /run/xdg/systemd/user
mkdir /run/xdg/systemd/user/asyncnbd@.service.d
# Only places differ.
sed -n 's|^ExecStart=asyncnbd|[Service]\
Environment=PATH=/run/node:/usr/bin:/bin\
StandardError=append:/run/errors\
TimeoutStartSec=20\
EnvironmentFile=\
EnvironmentFile=/run/conf/%i.conf\
ExecStart=\
ExecStart=/run/package/dist/cli/main.js|p' "$package/packaging/asyncnbd@.service" \
  > /run/xdg/systemd/user/asyncnbd@.service.d/places.conf

unshare --cgroup /usr/lib/systemd/systemd --user --unit=basic.target > /run/log 2>&1 &
manager=$!
for _ in $(seq 100); do
  systemctl --user is-active --quiet basic.target 2>/dev/null && break
  sleep 0.1
done
chmod 0777 /run/xdg/systemd/notify # as a system's is, whose services have users of their own
status=0
sh -eu || status=$?
[ "$status" -eq 0 ] || cat /run/log /run/errors >&2
kill -58 "$manager" # SIGRTMIN+24: it ends at once, and so do its units
wait "$manager" || :
exit "$status"
