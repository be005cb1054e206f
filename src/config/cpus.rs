//! A list of processors.

use std::fmt;

/// The highest number that the kernel's calls take here.
const HIGHEST: usize = 1023;

/// Numbers of processors, each once, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The numbers; none: no list was given.
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

/// Reads numbers and ranges separated by commas, `0-3,6`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<usize>().ok().filter(|number| digits && *number <= HIGHEST);
        number.ok_or_else(|| format!("'{text}' is not the number of a processor (0 to {HIGHEST})"))
    };
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("'{part}' is not a range: it ends before it begins"));
        }
        for processor in first..=last {
            if numbers.contains(&processor) {
                return Err(format!("processor {processor} is given twice"));
            }
            numbers.push(processor);
        }
    }
    Ok(CpuList(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_read_in_their_order() {
        for (text, numbers) in
            [("0", &[0][..]), ("0-3", &[0, 1, 2, 3]), ("6,0-1,1023", &[6, 0, 1, 1023]), ("2-2", &[2])]
        {
            assert_eq!(parse_cpus(text).expect(text).numbers(), numbers, "{text}");
        }
        assert_eq!(parse_cpus("0-2,5").expect("a list").to_string(), "0,1,2,5");
    }

    #[test]
    fn what_is_no_list_is_told() {
        for (text, told) in [
            ("", "'' is not the number of a processor (0 to 1023)"),
            ("0,", "'' is not the number of a processor (0 to 1023)"),
            ("1024", "'1024' is not the number of a processor (0 to 1023)"),
            ("+1", "'+1' is not the number of a processor (0 to 1023)"),
            ("-1", "'' is not the number of a processor (0 to 1023)"),
            ("0-", "'' is not the number of a processor (0 to 1023)"),
            ("0-1-2", "'1-2' is not the number of a processor (0 to 1023)"),
            ("3-1", "'3-1' is not a range: it ends before it begins"),
            ("0-3,2", "processor 2 is given twice"),
            ("all", "'all' is not the number of a processor (0 to 1023)"),
        ] {
            assert_eq!(parse_cpus(text), Err(told.to_owned()), "{text}");
        }
    }
}
