#!/bin/sh
# Makes the file system of the node agent's container, as the chart's DaemonSet mounts it, drops what the chart drops, and
# becomes the agent.
#
#   agent_root.sh DIRECTORY CAPABILITIES PROGRAM...
#
# DIRECTORY is the node's (node_root.sh), with `image` for the image's /opt/cni/bin and `serviceaccount`. Runs as first process of new
# mount and process namespaces inside the node's. READ_ONLY names mounts below /host that are read-only, TINY those that have 64 KiB.
set -eu
directory=$1
capabilities=$2
shift 2
root=$directory/agent
mkdir -p "$root" "$directory/image" "$directory/serviceaccount"
mount -t tmpfs -o mode=0755 agent "$root"
mount --make-unbindable "$root"

for entry in /*; do
  name=${entry#/}
  case $name in proc | run | var | opt | host | etc) continue ;; esac
  if [ -L "$entry" ]; then
    cp -a "$entry" "$root/$name"
  elif [ -d "$entry" ]; then
    mkdir "$root/$name"
    mount --rbind "$entry" "$root/$name"
  fi
done
mkdir -p "$root/proc" "$root/etc" "$root/var/tmp" "$root/opt/cni/bin" "$root/host/proc" "$root/host/opt/cni/bin" \
  "$root/host/etc/cni/net.d" "$root/host/var/run/netns" "$root/run/istio-cni" "$root/run/ztunnel" \
  "$root/run/secrets/kubernetes.io/serviceaccount"
ln -s ../run "$root/var/run"
cp -a /etc/. "$root/etc"
rm -rf "$root/etc/cni"
mount --rbind /proc "$root/host/proc"
mount -o remount,bind,ro "$root/host/proc"
mount -t proc proc "$root/proc"
mount --bind /opt/cni/bin "$root/host/opt/cni/bin"
mount --bind /etc/cni/net.d "$root/host/etc/cni/net.d"
mount --bind /run/netns "$root/host/var/run/netns"
mount --make-slave "$root/host/var/run/netns"
mount --bind /run/istio-cni "$root/run/istio-cni"
mount --bind /run/ztunnel "$root/run/ztunnel"
mount --bind "$directory/serviceaccount" "$root/run/secrets/kubernetes.io/serviceaccount"
mount --bind "$directory/image" "$root/opt/cni/bin"
for path in ${READ_ONLY:-}; do
  mount -o remount,bind,ro "$root$path"
done
for path in ${TINY:-}; do
  mount -t tmpfs -o size=64k tiny "$root$path"
done

mount --make-private "$root"
cd "$root"
mkdir .old
pivot_root . .old
umount -l /.old
rmdir /.old
cd /opt/cni/bin
exec setpriv --bounding-set="$capabilities" --inh-caps=-all --ambient-caps=-all -- "$@"
