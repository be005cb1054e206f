//! What a person at a terminal sees: the configuration, and the table from time to time.

use std::io::Write;
use std::thread;
use std::time::Duration;

use log::warn;

use crate::config::Config;
use crate::control;
use crate::table::Table;

/// How often the table is shown.
const INTERVAL: Duration = Duration::from_secs(5);

/// Starts to show both on stdout, until it is closed.
pub(super) fn start(config: &Config, fifo: &str, table: Table, max_connections: usize) {
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
        config.listen,
        config.policy,
        if config.top { ", top weight only" } else { "" },
        config.threads,
    );
    let watched = config.watchdog.is_some();
    let show = move || {
        let mut out = std::io::stdout();
        let mut shown = out.write_all(start.as_bytes());
        // Ends when the terminal is gone.
        while shown.is_ok() {
            let destinations = table.snapshot();
            let mut tables = control::info(&destinations, max_connections);
            if watched {
                tables += &control::watch(&destinations);
            }
            shown = out.write_all(tables.as_bytes()).and_then(|()| out.flush());
            thread::sleep(INTERVAL);
        }
    };
    if let Err(error) = thread::Builder::new().name("display".into()).spawn(show) {
        warn!("cannot show the table: {error}");
    }
}
