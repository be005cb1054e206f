//! Clocks that jump. The kernel's own cannot be set for one process, so what reads them is in the place of the C library's
//! function, by LD_PRELOAD.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Load, watched_sites};
use crate::harness::{Glbd, Site, echoes, wait_until};

/// Adds to the clocks the seconds that the file at JUMP has: first the wall clock's, then the monotonic one's. The kernel,
/// whose clock has not jumped, is to wake threads at the moments that it knows.
const CLOCKS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
static volatile long *jump;
static long (*call)(long, long, long, long, struct timespec *, long, long);
__attribute__((constructor)) static void prepare(void) {
    jump = mmap(0, 2 * sizeof *jump, PROT_READ, MAP_SHARED, open(getenv("JUMP"), O_RDONLY | O_CLOEXEC), 0);
    call = dlsym(RTLD_NEXT, "syscall");
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = call(SYS_clock_gettime, clock, (long)now, 0, 0, 0, 0);
    if (clock == CLOCK_REALTIME) now->tv_sec += jump[0];
    if (clock == CLOCK_MONOTONIC) now->tv_sec += jump[1];
    return result;
}
long syscall(long number, long a, long operation, long b, struct timespec *until, long c, long d) {
    struct timespec known;
    if (number == SYS_futex && (operation & 127) == FUTEX_WAIT_BITSET && until) {
        known = *until;
        known.tv_sec -= jump[1];
        until = &known;
    }
    return call(number, a, operation, b, until, c, d);
}
"#;

/// A glbd and its checker, whose clocks can be set, and clients.
struct Scene {
    directory: tempfile::TempDir,
    glbd: Glbd,
    sites: [Site; 2],
    load: Load,
}

impl Scene {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (source, library) = (directory.path().join("clock.c"), directory.path().join("clock.so"));
        fs::write(&source, CLOCKS).expect("a source");
        let mut compile = Command::new("cc");
        let compiled = compile.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(compiled.expect("cc, of the package gcc").success());
        let jump = directory.path().join("jump");
        set(&jump, [0, 0]);
        let (page_port, sites) = watched_sites();
        let preload = ["LD_PRELOAD", "JUMP"].into_iter().zip([&library, &jump]);
        let wrapper = preload.map(|(name, path)| format!("{name}={}", path.display()));
        let glbd = Glbd::builder()
            .wrapped_by(["env".to_owned()].into_iter().chain(wrapper))
            .args(["-i", "0.1", "--timeout", "30", "-w", &format!("http:{page_port}")])
            .destinations(&sites)
            .start();
        let load = Load::on(glbd.address());
        let scene = Self { directory, glbd, sites, load };
        wait_until("all are READY", || scene.are_all_ready());
        scene
    }

    fn are_all_ready(&self) -> bool {
        self.glbd.watch().rows.iter().all(|row| row.state == "READY")
    }

    fn set(&self, jump: [i64; 2]) {
        set(&self.directory.path().join("jump"), jump);
    }

    /// The year in the log's last line, once another was written.
    fn year(&self) -> String {
        let before = self.glbd.log().lines().count();
        self.glbd.control("loglevel info");
        wait_until("a line is logged", || self.glbd.log().lines().count() > before);
        self.glbd.log().lines().last().and_then(|line| line.get(..4)).unwrap_or_default().to_owned()
    }

    /// Destinations are checked as often as before, no verdict has changed, and no client was lost.
    fn goes_on(&self) {
        let asked = || self.sites.iter().map(|site| site.asked().len()).sum::<usize>();
        let before = asked();
        wait_until("destinations are checked", || asked() > before + 10);
        self.load.wait_for_more();
        assert!(self.are_all_ready(), "{:?}", self.glbd.watch());
        for state in ["DOWN", "AVOID", "SPARE", "cannot be reached", "checker"] {
            assert!(!self.glbd.log().contains(state), "{}", self.glbd.log());
        }
        assert_eq!(self.load.complaints(), [""; 0]);
        assert!(echoes(&self.load.session));
    }
}

/// In place, since it is mapped.
fn set(path: &Path, jump: [i64; 2]) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("a file");
    file.write_all_at(&jump.map(i64::to_ne_bytes).concat(), 0).expect("16 bytes");
}

const YEAR: i64 = 366 * 24 * 60 * 60;

#[test]
fn the_wall_clock_jumps_by_decades_and_only_the_log_s_time_stamps_follow() {
    let scene = Scene::start();
    let year: i64 = scene.year().parse().expect("a year");
    for years in [30, -40, 0] {
        scene.set([years * YEAR, 0]);
        scene.goes_on();
        let now: i64 = scene.year().parse().expect("a year");
        assert!((now - year - years).abs() <= 1, "{now}");
    }
    scene.load.end();
}

#[test]
fn the_monotonic_clock_jumps_by_an_hour_as_after_a_machine_was_suspended_and_no_client_is_lost() {
    let scene = Scene::start();
    for hours in 1..=3 {
        scene.set([0, hours * 60 * 60]);
        scene.goes_on();
    }
    scene.load.end();
}
