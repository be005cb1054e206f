//! What a person at a terminal sees: the configuration, and the table from time to time.

use std::io::Write;
use std::time::Duration;

use log::warn;

use crate::config::Config;
use crate::control;
use crate::pool::Rotation;
use crate::repeat::{self, Repeating};

/// How often the table is shown.
const INTERVAL: Duration = Duration::from_secs(5);

/// Shows both on stdout, until it is closed or what this returns is dropped.
pub(super) fn start(config: &Config, fifo: &str, table: &Rotation, max_connections: usize) -> Option<Repeating> {
    let control = config.control.as_ref().map_or("none".to_owned(), ToString::to_string);
    let start = format!(
        "glbd {}\n\
        Listening on:    {}\n\
        Control socket:  {control}\n\
        Control FIFO:    {fifo}\n\
        Policy:          {}{}\n\
        Threads:         {}\n\
        Max connections: {max_connections}\n",
        env!("CARGO_PKG_VERSION"),
        config.service.listen,
        config.service.policy,
        if config.service.top { ", top weight only" } else { "" },
        config.threads,
    );
    let (table, watched) = (table.clone(), config.pool.watchdog.is_some());
    let (mut out, mut start) = (std::io::stdout(), Some(start));
    let show = move || {
        let destinations = table.snapshot();
        let mut text = start.take().unwrap_or_default() + &control::info(&destinations, max_connections);
        if watched {
            text += &control::watch(&destinations, &table.unresolved(), table.checks_note().as_ref());
        }
        // Ends when the terminal is gone.
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    };
    let shown = repeat::start("display", Duration::ZERO, INTERVAL, show);
    shown.inspect_err(|error| warn!("cannot show the table: {error}")).ok()
}
