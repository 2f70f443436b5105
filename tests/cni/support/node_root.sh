#!/bin/sh
# Makes a Kubernetes node's file system in a mount namespace of its own and becomes the node's first process.
# The machine's programs and libraries are there; what CNI agents, plugins and runtimes write is the node's own.
#
#   node_root.sh DIRECTORY POD_PROGRAM [PATH_TO_SHOW...]
#
# Runs as first process of new mount and process namespaces, in the node's network namespace.
set -eu
directory=$1
pod=$2
shift 2
root=$directory/root
mkdir -p "$root" "$directory/bin" "$directory/net.d" "$directory/netns" "$directory/run" "$directory/ztunnel"
mount -t tmpfs -o mode=0755 node "$root"
# Not copied into itself when the directory above it is shown.
mount --make-unbindable "$root"

for entry in /*; do
  name=${entry#/}
  case $name in proc | run | var | etc | opt | host) continue ;; esac
  if [ -L "$entry" ]; then
    cp -a "$entry" "$root/$name"
  elif [ -d "$entry" ]; then
    mkdir "$root/$name"
    mount --rbind "$entry" "$root/$name"
  fi
done
mkdir -p "$root/proc" "$root/run/netns" "$root/run/istio-cni" "$root/run/ztunnel" "$root/var/lib" "$root/var/tmp" "$root/opt/cni/bin"
ln -s ../run "$root/var/run"
mount -t proc proc "$root/proc"
cp -a /etc "$root/etc"
rm -rf "$root/etc/cni"
mkdir -p "$root/etc/cni/net.d"
mount --bind "$directory/net.d" "$root/etc/cni/net.d"
mount --bind "$directory/bin" "$root/opt/cni/bin"
mount --bind "$directory/run" "$root/run/istio-cni"
mount --bind "$directory/ztunnel" "$root/run/ztunnel"
# As on a node, so that an agent's container sees the namespaces that are made after its start.
mount --bind "$directory/netns" "$root/run/netns"
mount --make-shared "$root/run/netns"
for path in "$@"; do
  if ! [ -e "$root$path" ]; then
    mkdir -p "$root$path"
    mount --rbind "$path" "$root$path"
  fi
done
# An agent finds the kubelet by its name.
cp "$pod" "$root/opt/kubelet"
cp "$pod" "$root/opt/init"

mount --make-private "$root"
cd "$root"
mkdir .old
pivot_root . .old
umount -l /.old
rmdir /.old
/opt/kubelet init &
exec /opt/init init
