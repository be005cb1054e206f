//! What the watchdog says: the answer to `getwatch`.

/// The answer to `getwatch`.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    pub rows: Vec<Judged>,
}

/// One destination in [`Watch`].
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub address: String,
    /// Whether a person named it.
    pub by_hand: bool,
    /// As set.
    pub weight: f64,
    /// `READY`, `AVOID`, `DOWN` or `UNKNOWN`.
    pub state: String,
    /// In seconds.
    pub latency: f64,
    pub weight_in_force: f64,
    pub reason: String,
    /// Since when it has its state.
    pub since: Option<String>,
}

impl Watch {
    /// Takes the answer apart; panics, showing it, if its layout is not what it should be.
    pub fn parse(answer: &str) -> Self {
        Self::try_parse(answer).unwrap_or_else(|| panic!("not the layout of getwatch:\n{answer}"))
    }

    fn try_parse(answer: &str) -> Option<Self> {
        let mut lines = answer.lines();
        let is_rule = |line: &str| !line.is_empty() && line.bytes().all(|byte| byte == b'-');
        let title = lines.next()?.starts_with("Watchdog:");
        let ruled = is_rule(lines.next()?);
        let columns = ["Address", ":", "exp", "setw", "state", "lat", "curw", "reason"];
        let heading = lines.next()?.split_whitespace().eq(columns);
        if !(title && ruled && heading) {
            return None;
        }
        let rows = lines.by_ref().take_while(|line| !is_rule(line)).map(Judged::parse).collect::<Option<Vec<_>>>()?;
        let complete = lines.next()? == format!("Destinations: {}", rows.len()) && lines.next().is_none();
        complete.then_some(Self { rows })
    }

    /// The row of the destination with this address; panics if there is none.
    pub fn row(&self, address: impl ToString) -> &Judged {
        let address = address.to_string();
        self.rows.iter().find(|row| row.address == address).unwrap_or_else(|| panic!("no {address} in {self:?}"))
    }
}

impl Judged {
    fn parse(line: &str) -> Option<Self> {
        let (address, rest) = line.split_once(" : ")?;
        let by_hand = rest.trim_start().starts_with('+');
        let (rest, since) = match rest.strip_suffix(')').and_then(|it| it.rsplit_once("(since ")) {
            Some((rest, since)) => (rest, Some(since.to_owned())),
            None => (rest, None),
        };
        let mut words = rest.trim_start().trim_start_matches('+').split_whitespace();
        Some(Self {
            address: address.trim_start().to_owned(),
            by_hand,
            weight: words.next()?.parse().ok()?,
            state: words.next()?.to_owned(),
            latency: words.next()?.parse().ok()?,
            weight_in_force: words.next()?.parse().ok()?,
            reason: words.collect::<Vec<_>>().join(" "),
            since,
        })
    }
}
