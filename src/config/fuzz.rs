//! The entry point for a fuzzer (`fuzz/`) of what a configuration file says.

use super::command_line::parse;
use super::{Config, file, print};

/// A file that says this.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(contents) = file::read(text) else { return };
    let words = || contents.command_line(Vec::new());
    let (Ok((matches, _)), Ok(config)) = (parse(words()), Config::from_command_line(words())) else { return };
    let printed = print::print(&matches);
    let again = file::read(&printed).map(|contents| Config::from_command_line(contents.command_line(Vec::new())));
    let again = again.ok().and_then(Result::ok).map(|config| format!("{config:?}"));
    assert_eq!(again, Some(format!("{config:?}")), "{printed}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_fuzzer_has_found_is_taken() {
        crate::checker::fuzz::tests::replay("configuration", super::configuration);
    }
}
