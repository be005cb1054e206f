//! One program for all targets. `FUZZ_TARGET` names the one to fuzz, since libFuzzer owns the arguments.

#![no_main]

use std::env;
use std::sync::LazyLock;

use glbd::checker::fuzz::{TARGETS, Target};
use glbd::config::fuzz::configuration;
use glbd::control::fuzz::control;
use glbd::daemon::fuzz::handover;
use glbd::health::fuzz::reports;
use glbd::http::fuzz::http_request;
use glbd::state::fuzz::state;
use glbd::worker::fuzz::proxy_protocol;
use libfuzzer_sys::{Corpus, fuzz_target};

/// Runs one input, and says whether it is worth keeping.
type Run = Box<dyn Fn(&[u8]) -> Corpus + Send + Sync>;

static RUN: LazyLock<Run> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    if name == "reports" {
        // Without a report, an input tries the parser of messages only.
        return Box::new(|bytes| if reports(bytes) { Corpus::Keep } else { Corpus::Reject });
    }
    let others: [(&str, Target); 6] = [
        ("control", control),
        ("state", state),
        ("handover", handover),
        ("configuration", configuration),
        ("proxy_protocol", proxy_protocol),
        ("http_request", http_request),
    ];
    let target = TARGETS.into_iter().chain(others).find(|(known, _)| *known == name);
    let (_, target) = target.expect("FUZZ_TARGET is one of those in scripts/fuzz");
    Box::new(move |bytes| {
        target(bytes);
        Corpus::Keep
    })
});

fuzz_target!(|bytes: &[u8]| -> Corpus { (*RUN)(bytes) });
