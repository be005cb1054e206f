//! MySQL's option files, read as MariaDB's own programs read them (mysys/my_default.c), as far as a client that logs in
//! needs them.

mod credentials;
#[cfg(test)]
mod tests;

pub use credentials::{Credentials, OptionFile};

/// The groups that are read; where both set an option, the last one in the file counts.
const GROUPS: [&str; 4] = ["client", "client-server", "client-mariadb", "glbd"];
/// The longest line that MariaDB reads as one.
const MAX_LINE: usize = 4094;

/// What sets an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// With `-` for each `_`.
    pub name: String,
    /// `None` where there is no `=`.
    pub value: Option<String>,
    /// The line in the file, from 1.
    pub line: usize,
}

/// Reads the settings of the groups that concern a client, in the file's order.
///
/// # Errors
/// The number of a line, and what is wrong with it. The text of the line is not repeated: it may be a password.
pub fn parse(contents: &[u8]) -> Result<Vec<Setting>, (usize, String)> {
    let mut settings = Vec::new();
    // Whether the present group is read; `None` ahead of the first.
    let mut group_is_read = None;
    for (line, bytes) in (1..).zip(contents.split(|byte| *byte == b'\n')) {
        let error = |reason: &str| (line, reason.to_owned());
        let bytes = trim_start(bytes);
        match bytes.first() {
            None | Some(b'#' | b';') => {}
            Some(_) if bytes.len() > MAX_LINE => return Err(error("the line is too long")),
            Some(b'!') => return Err(error("other files cannot be included")),
            Some(b'[') => group_is_read = Some(is_read(bytes).ok_or_else(|| error("'[' without ']'"))?),
            Some(_) if group_is_read == Some(true) => {
                let text = std::str::from_utf8(bytes).map_err(|_| error("not UTF-8"))?;
                if text.contains('\0') {
                    return Err(error("a NUL"));
                }
                settings.push(setting(text, line));
            }
            Some(_) if group_is_read.is_none() => return Err(error("an option ahead of the first [group]")),
            Some(_) => {}
        }
    }
    Ok(settings)
}

/// Whether the group that this line begins is read; `None` if it has no end.
fn is_read(line: &[u8]) -> Option<bool> {
    let end = line.iter().position(|byte| *byte == b']')?;
    let name = trim_end(line.get(1..end)?);
    Some(GROUPS.iter().any(|group| group.as_bytes() == name))
}

fn setting(text: &str, line: usize) -> Setting {
    let text = without_comment(text);
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(unquote(value))),
        None => (text, None),
    };
    Setting { name: name.trim_end_matches(is_blank).replace('_', "-"), value, line }
}

/// A comment begins with a `#` outside quotes, wherever that stands.
fn without_comment(text: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (None, '#') => return text.get(..index).unwrap_or(text),
            (None, '\'' | '"') if !escaped => quote = Some(c),
            (Some(open), c) if open == c && !escaped => quote = None,
            _ => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
    }
    text
}

/// A value without the blanks, quotes and backslashes that are written around it.
fn unquote(text: &str) -> String {
    let text = text.trim_matches(is_blank);
    let inside = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    unescape(inside('"').or_else(|| inside('\'')).unwrap_or(text))
}

fn unescape(text: &str) -> String {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match rest.next() {
            Some('b') => value.push('\u{8}'),
            Some('t') => value.push('\t'),
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('s') => value.push(' '),
            Some(quote @ ('"' | '\'')) => value.push(quote),
            Some('\\') | None => value.push('\\'),
            // A backslash that escapes nothing stands for itself.
            Some(other) => value.extend(['\\', other]),
        }
    }
    value
}

/// What MariaDB's reader takes for a blank.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{b}' | '\u{c}')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_blank(char::from(*byte))).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !is_blank(char::from(*byte))).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}
