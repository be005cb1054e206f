//! How a machine is booted whose file system shows this one's files until it changes them.

/// Runs as the machine's first process, as that of any other [`Machine`](super::machine::Machine) does. To programs that
/// ask, the machine was booted by SysV's init.
pub const BOOT_FROM_COPY: &str = r#"
set -e
files=$1
trap '' CHLD
ip link set lo up
mount -t tmpfs tmpfs /mnt
cd /mnt
mkdir changes work root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work root
cd root
mount -t proc proc proc
mount --rbind /dev dev
for directory in srv run tmp; do
    mount --bind "$files/$directory" "$directory"
done
pivot_root . mnt
cd /
rm -f /usr/sbin/policy-rc.d /usr/local/sbin/glbd /sbin/init /sbin/runlevel
ln -s /bin/true /sbin/init
printf '#!/bin/sh\necho N 2\n' >/sbin/runlevel
chmod 755 /sbin/runlevel
echo booted
exec cat
"#;

/// What the machine has changed.
pub const CHANGES: &str = "/mnt/mnt/changes";
/// The file system that its own is a copy of.
pub const BEHIND: &str = "/mnt";
