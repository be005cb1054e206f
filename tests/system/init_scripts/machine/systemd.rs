//! A machine whose first process is systemd.

use super::{Machine, TOOLS, files_of_machine, start};
use crate::harness::wait_until;

/// Starts systemd in a control group of its own, and ends it when its standard input ends.
const LIFELINE: &str = r#"
set -e
files=$1
program=$2
mkdir "$files/cgroup" "$files/disk"
mount -t cgroup2 cgroup2 "$files/cgroup"
group=$files/cgroup/glbd-test-$$
mkdir "$group"
(
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child -- \
        bash -c "$BOOT" boot "$files" "$program"
) &
machine=$!
echo "$machine"
cat
# Nobody is interested in who is killed, and the last ones may take a moment.
exec 2>/dev/null
echo 1 >"$group/cgroup.kill"
for _ in {1..200}; do
    find "$group" -depth -type d -exec rmdir {} + && break
    sleep 0.05
done
"#;

/// What systemd writes goes to memory. It must not reach this machine's devices, nor its kernel's settings.
const BOOT: &str = r#"
set -e
files=$1
program=$2
ip link set lo up
mount -t tmpfs tmpfs "$files/disk"
cd "$files/disk"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
cp "$program" usr/sbin/glbd
rm -rf etc/systemd/system/*
ln -s /lib/systemd/system/basic.target etc/systemd/system/default.target
for unit in dev-hugepages.mount dev-mqueue.mount e2scrub_reap.service sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-modules-load.service systemd-remount-fs.service systemd-udev-trigger.service systemd-udevd.service; do
    ln -s /dev/null "etc/systemd/system/$unit"
done
: >etc/fstab
: >etc/machine-id

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount --bind "$files/default" etc/default
mount --bind "$files/init.d" etc/init.d
mount --bind "$files/srv" srv
# The repository may be below it, so this comes last.
mount --bind "$files/tmp" tmp

mkdir .old
pivot_root . .old
cd /
umount --lazy .old
echo booted
exec env --ignore-environment container=test /lib/systemd/systemd </dev/null >/dev/null 2>&1
"#;

impl Machine {
    /// A machine that systemd has booted. Its disk looks as this machine's, with glbd installed.
    pub fn boot_systemd() -> Self {
        let files = files_of_machine(&[&TOOLS[..], &[("systemctl", "systemd")]].concat());
        let script = format!("BOOT={}\n{LIFELINE}", quoted(BOOT));
        let (lifeline, mut said) = start(&["--mount"], &script, files.path());
        let mut next = || said.next().expect("a line").expect("text");
        let namespaces = next().parse().expect("a process id");
        assert_eq!(next(), "booted", "the machine's first process");
        let machine = Self { lifeline, namespaces, files };
        let state = || machine.run(&["systemctl", "is-system-running"]).text;
        wait_until("systemd has booted", || ["running\n", "degraded\n"].contains(&state().as_str()));
        assert_eq!(state(), "running\n", "{}", machine.run(&["systemctl", "--failed"]).text);
        machine
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
