#!/usr/bin/env bash
# Becomes a host of its own, and runs a command there: inside.sh NAME DISK VAR CODE … -- COMMAND …
#
# Called in new mount, host name and process namespaces. Of the machine's files the host sees CODE and the root folder,
# which it cannot write to. /tmp and VAR, below /tmp, are its own: folders of DISK.
set -euo pipefail
name=$1 disk=$2 var=$3
shift 3

below_tmp() { echo "$disk/tmp/${1#/tmp/}"; } # where a path of the machine's /tmp is on the disk
while [ "$1" != "--" ]; do
    case "$1" in
    /tmp/*)
        mkdir -p "$(below_tmp "$1")"
        mount --bind "$1" "$(below_tmp "$1")"
        mount -o remount,bind,ro "$(below_tmp "$1")"
        ;;
    esac
    shift
done
shift
mkdir -p "$disk/var" "$(below_tmp "$var")"
mount --bind "$disk/var" "$(below_tmp "$var")"
mount --rbind "$disk/tmp" /tmp
mount -t tmpfs tmpfs /dev/shm
mount -o remount,bind,ro /
hostname "$name"
cd /tmp
"$@" & # not exec: the first process of a host reaps those whose parents have died
wait $!
