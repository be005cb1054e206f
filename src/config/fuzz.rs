//! The entry point for a fuzzer (`fuzz/`) of what a configuration file says.

use super::Config;

/// A file that says this.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok((config, printed)) = Config::from_text(text, &[]) else { return };
    let printed = printed.to_string();
    let again = Config::from_text(&printed, &[]).ok().map(|(config, _)| format!("{config:?}"));
    assert_eq!(again, Some(format!("{config:?}")), "{printed}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_fuzzer_has_found_is_taken() {
        crate::checker::fuzz::tests::replay("configuration", super::configuration);
    }
}
