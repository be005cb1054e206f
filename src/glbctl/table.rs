//! Tables for people, and their colours.

use std::env;
use std::io::{IsTerminal, stdout};

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As usual.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// To be looked at.
    Odd,
    /// Wrong.
    Bad,
}

impl Tone {
    /// Of a verdict.
    pub fn of(verdict: &str) -> Tone {
        match verdict {
            "READY" => Tone::Good,
            "SPARE" | "AVOID" | "UNKNOWN" => Tone::Odd,
            "DOWN" | "UNRESOLVED" => Tone::Bad,
            _ => Tone::Plain,
        }
    }
}

/// Colours what is written, or not.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    coloured: bool,
}

impl Paint {
    /// With colours if stdout is a terminal that may have them.
    pub fn for_stdout() -> Paint {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        Paint { coloured: stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb }
    }

    /// Without.
    #[cfg(test)]
    pub fn plain() -> Paint {
        Paint { coloured: false }
    }

    /// Puts the colours of a tone around a text.
    pub fn text(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Odd => 33,
            Tone::Bad => 31,
        };
        if self.coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn heading(self, text: &str) -> String {
        if self.coloured { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A table, of which the titles say how columns are aligned: those that begin with `>` to the right.
#[derive(Debug)]
pub struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub fn new(titles: &[&'static str]) -> Table {
        Table { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, which has as many cells as there are titles.
    pub fn row<const N: usize>(&mut self, cells: [(String, Tone); N]) {
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, a line for each row, without columns in which there is nothing.
    pub fn show(&self, paint: Paint) -> String {
        let is_used = |column: &usize| self.rows.iter().any(|row| !row[*column].0.is_empty());
        let columns: Vec<usize> = (0..self.titles.len()).filter(is_used).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].0.chars().count());
            cells.chain([self.title(column).chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.titles.len()).map(width).collect();
        let line = |cells: &dyn Fn(usize) -> (String, String)| {
            let mut line = String::new();
            for &column in &columns {
                let (text, painted) = cells(column);
                let blanks = " ".repeat(widths[column] - text.chars().count());
                let is_right = self.titles[column].starts_with('>');
                line += &if is_right { blanks + &painted } else { painted + &blanks };
                line += "  ";
            }
            line.trim_end().to_owned() + "\n"
        };
        let mut shown = line(&|column| (self.title(column).to_owned(), paint.heading(self.title(column))));
        for row in &self.rows {
            shown += &line(&|column| (row[column].0.clone(), paint.text(&row[column].0, row[column].1)));
        }
        shown
    }

    fn title(&self, column: usize) -> &'static str {
        self.titles[column].trim_start_matches('>')
    }
}

/// A cell without a tone.
pub fn cell(text: impl ToString) -> (String, Tone) {
    (text.to_string(), Tone::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new(&["NAME", "NOTHING", ">COUNT", "WHY"]);
        table.row([cell("größe"), cell(""), cell(7), cell("")]);
        table.row([cell("b"), cell(""), cell(1234567), ("bad".into(), Tone::Bad)]);
        let shown = table.show(Paint::plain());
        assert_eq!(shown, "NAME     COUNT  WHY\ngröße        7\nb      1234567  bad\n");
        let coloured = table.show(Paint { coloured: true });
        assert!(coloured.contains("\u{1b}[31mbad\u{1b}[0m"), "{coloured:?}");
    }
}
