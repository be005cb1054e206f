//! A reload while the machine lacks something: it is answered, and nothing has changed.

use std::fs;

use crate::harness::{Fault, Server, echoes, free_port, proc, wait_until};
use crate::services::{Site, served};

/// A service on one server, and what a thread that has ended leaves to the next one: its stack.
fn warmed() -> (Site, Server, u16) {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let text = |destinations: &str| {
        site.write(&[("a", &[&server], "resolve = 0")], &[("s", port, "")]);
        let text = fs::read_to_string(&site.file).expect("the file");
        fs::write(&site.file, text.replace(&format!("\"{server}\""), destinations)).expect("the file");
    };
    text(&format!("\"{server}\""));
    site.start();
    let has_resolvers = || proc::threads(site.daemon.pid()).iter().any(|it| ["names", "resolver"].contains(&&**it));
    text(&format!("\"{server}\", \"localhost:1\""));
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    text(&format!("\"{server}\""));
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    wait_until("the threads of names have ended", || !has_resolvers());
    (site, server, port)
}

/// No thread can be started, as the process would have to start one for each of these. That of a name's lookup has a stack,
/// and gets no memory for anything else, which would end the process.
#[test]
fn a_reload_that_gets_no_thread_is_answered_and_changes_nothing() {
    for (fault, reason) in [
        ("mmap:error=ENOMEM", "Cannot allocate memory (os error 12)"),
        ("clone,clone3:error=EAGAIN", "Resource temporarily unavailable (os error 11)"),
    ] {
        let (site, server, port) = warmed();
        let session = served(port);
        let right = fs::read_to_string(&site.file).expect("the file");
        let (pid, info, watch) =
            (site.daemon.pid(), || site.daemon.control("getinfo"), || site.daemon.control("getwatch"));
        let before = (info(), watch());
        let watched = right.replace("resolve = 0", "resolve = 0\nwatchdog = \"tcp\"\ninterval = 0.2");
        let named = right.replace(&format!("\"{server}\""), &format!("\"{server}\", \"localhost:1\""));
        let lacks = Fault::inject(pid, fault);
        for (text, what) in [(&watched, "cannot start a thread"), (&named, "cannot "), (&right, "")] {
            fs::write(&site.file, text).expect("the file");
            let answer = site.daemon.control("reload");
            if what.is_empty() {
                assert_eq!(answer, "Ok\n");
            } else {
                assert!(
                    answer.starts_with(&format!("Error: {what}")) && answer.ends_with(&format!("{reason}\n")),
                    "{answer}"
                );
            }
            assert_eq!((info(), watch()), before);
            assert!(echoes(&session));
            drop(served(port));
            wait_until("that client is gone", || info() == before.0);
        }
        assert!(lacks.hits() > 0 || fault.starts_with("mmap"));
        lacks.lift();
        fs::write(&site.file, watched).expect("the file");
        assert!(site.daemon.control("reload").ends_with("Ok\n"));
        wait_until("it is checked", || watch().contains(" READY "));
        assert_eq!(site.daemon.pid(), pid);
        assert!(echoes(&session));
    }
}

/// What a hand did, and the file overrules, would come back with the next start.
#[test]
fn a_reload_whose_state_cannot_be_kept_says_so() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let [kept, away] = ["kept", "away"].map(|name| site.daemon.directory().join(name));
    fs::create_dir(&kept).expect("a directory");
    let state = kept.join("state").display().to_string();
    let write = |more: &str| site.write(&[("a", &[&server], more)], &[("s", port, "")]);
    write("");
    site.daemon.start(&["--config", &site.file, "--state", &state]);
    fs::rename(&kept, &away).expect("our own directory");
    write("resolve = 9");
    let told = "pool a: names are resolved otherwise\n";
    let reason =
        format!("a restart will go by the state as it was before: cannot write {state}: No such file or directory");
    assert_eq!(site.daemon.control("reload"), format!("{told}Error: done, but {reason} (os error 2)\n"));
    // Again, since it is still so.
    assert_eq!(site.daemon.control("reload"), format!("Error: done, but {reason} (os error 2)\n"));
    fs::rename(&away, &kept).expect("our own directory");
    assert_eq!(site.daemon.control("reload"), "Ok\n");
}
