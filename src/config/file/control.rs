//! The control addresses of a file, each as the command line says it.

use toml::de::{DeTable, DeValue};

use super::said::{port_or_text, text, wrong_kind};
use crate::config::control::OPTIONS;

const ADDRESS: &str = "address";
const TAKEN: &str = "a port, a string or a section";

/// The words for one or for a list of them.
///
/// # Errors
/// What is wrong with the first that cannot be said.
pub(super) fn control_words(value: &DeValue) -> Result<Vec<String>, String> {
    match value.as_array() {
        Some(list) => list.iter().map(|item| words_of(item.get_ref())).collect(),
        None => Ok(vec![words_of(value)?]),
    }
}

fn words_of(value: &DeValue) -> Result<String, String> {
    match value.as_table() {
        Some(table) => words_of_table(table),
        None => port_or_text(value).ok_or_else(|| wrong_kind(value, TAKEN)),
    }
}

fn words_of_table(table: &DeTable) -> Result<String, String> {
    let known = |name: &str| name == ADDRESS || OPTIONS.contains(&name);
    if let Some(unknown) = table.keys().map(|name| name.get_ref()).find(|name| !known(name)) {
        let there_are = OPTIONS.join(", ");
        return Err(format!("no such key '{unknown}'; there are {ADDRESS}, {there_are}"));
    }
    let given = table.get(ADDRESS).ok_or_else(|| format!("there is no '{ADDRESS}'"))?.get_ref();
    let mut words =
        port_or_text(given).ok_or_else(|| format!("{ADDRESS}: {}", wrong_kind(given, "a port or a string")))?;
    for option in OPTIONS {
        let Some(value) = table.get(option).map(|it| it.get_ref()) else { continue };
        let told = |reason| format!("{option}: {reason}");
        if option == "read-only" {
            let given = value.as_bool().ok_or_else(|| told(wrong_kind(value, "true or false")))?;
            words += if given { ",read-only" } else { "" };
            continue;
        }
        let text = text(value).map_err(told)?;
        if text.contains(',') {
            return Err(told(format!("'{text}' has a comma in it")));
        }
        words += &format!(",{option}={text}");
    }
    Ok(words)
}
