//! Whatever happens to a table with a single destination: two never serve in the same moment, and waiting ends.

use super::single::{Told, single};
use super::transfers::{Outcome, pass};
use super::*;

#[derive(Debug, Clone)]
enum Action {
    Judge(u16, usize),
    Weigh(u16, f64),
    Remove(u16),
    Come,
    /// A client whose connect fails.
    Fail,
    Leave(usize),
    /// The workers close what they were told to close.
    ReadMail,
    Pass(u64),
    Switch(u16, u64),
}

fn action() -> impl Strategy<Value = Action> {
    let port = 1..5u16;
    prop_oneof![
        4 => (port.clone(), 0..4usize).prop_map(|(port, verdict)| Action::Judge(port, verdict)),
        1 => (port.clone(), 0..4u8).prop_map(|(port, weight)| Action::Weigh(port, weight.into())),
        1 => port.clone().prop_map(Action::Remove),
        6 => Just(Action::Come),
        1 => Just(Action::Fail),
        3 => any::<usize>().prop_map(Action::Leave),
        2 => Just(Action::ReadMail),
        3 => (1..1500u64).prop_map(Action::Pass),
        2 => (port, 0..4u64).prop_map(|(port, grace)| Action::Switch(port, grace)),
    ]
}

/// A session, and when it was to be closed, if it was.
type Session = (Lease, Option<Instant>);

const VERDICTS: [Verdict; 4] = [Verdict::Down, Verdict::Avoid, Verdict::Spare, Verdict::Ready];

/// A table with its clients.
struct Model {
    table: Rotation,
    watched: bool,
    told: Told,
    sessions: Vec<Session>,
    switches: Vec<Outcome>,
    /// A client waits.
    waits: bool,
    /// It was told to pick again.
    settled: bool,
}

impl Model {
    fn new(watched: bool) -> Model {
        let weights = [1.0, 1.0, 2.0, 3.0];
        let table = if watched { single(&weights) } else { table(PolicyKind::Single, &weights) };
        let (told, sessions, switches) = (Told::by(&table), Vec::new(), Vec::new());
        Model { table, watched, told, sessions, switches, waits: false, settled: false }
    }

    fn act(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Judge(port, verdict) if self.watched => judge(&self.table, port, VERDICTS[verdict]),
            Action::Weigh(port, weight) => add(&self.table, port, weight),
            Action::Remove(port) => drop(self.table.remove(at(port))),
            Action::Come => self.come()?,
            Action::Fail => self.fail()?,
            Action::Leave(index) if !self.sessions.is_empty() => {
                let index = index % self.sessions.len();
                self.sessions.swap_remove(index);
            }
            Action::ReadMail => self.sessions.retain(|(_, closed)| closed.is_none()),
            Action::Pass(milliseconds) => pass(&self.table, Duration::from_millis(milliseconds)),
            Action::Switch(port, grace) => {
                let (outcome, grace) = (Outcome::default(), Duration::from_secs(grace));
                if self.table.switch_single(at(port), grace, clock::now(), outcome.done()).is_ok() {
                    self.switches.push(outcome);
                } else {
                    prop_assert_eq!(outcome.take(), None);
                }
            }
            Action::Judge(..) | Action::Leave(_) => {}
        }
        self.read_events();
        Ok(())
    }

    fn read_events(&mut self) {
        for event in self.told.take() {
            self.settled |= event == Event::Settled;
            if let Event::Closed(id, ..) = event {
                for (_, closed) in self.sessions.iter_mut().filter(|(lease, _)| lease.id() == id) {
                    closed.get_or_insert(clock::now());
                }
            }
        }
    }

    fn pick(&mut self) -> Result<Option<Lease>, TestCaseError> {
        let pick = self.table.pick(client(1), &mut Tried::default(), clock::now());
        self.read_events();
        if matches!(pick, Pick::Wait) {
            (self.waits, self.settled) = (true, false);
            return Ok(None);
        }
        prop_assert!(!self.waits || self.settled, "whatever waits is told");
        self.waits = false;
        let lease = pick.leased();
        let open = |row: &&DestinationStatus| row.weight > 0.0 && row.health.verdict >= Some(Verdict::Spare);
        let rows = self.table.snapshot();
        let best = rows.iter().filter(open).map(|row| row.health.verdict).max();
        let picked = lease.as_ref().and_then(|lease| rows.iter().find(|row| row.id == lease.id()));
        prop_assert_eq!(picked.map(|row| row.health.verdict), best, "READY before SPARE, if there is any");
        prop_assert!(!self.watched || picked.is_none_or(|row| row.is_single));
        Ok(lease)
    }

    fn come(&mut self) -> Result<(), TestCaseError> {
        let Some(lease) = self.pick()? else { return Ok(()) };
        if self.watched {
            let overdue = Duration::from_millis(1900);
            let others = self.sessions.iter().filter(|(other, _)| other.id() != lease.id());
            let left = others.filter(|(_, closed)| closed.is_none_or(|at| at + overdue > clock::now())).count();
            prop_assert_eq!(left, 0, "sessions on another destination");
        }
        self.sessions.push((lease, None));
        Ok(())
    }

    fn fail(&mut self) -> Result<(), TestCaseError> {
        let Some(lease) = self.pick()? else { return Ok(()) };
        let id = lease.id();
        prop_assert_eq!(lease.retries(), self.watched);
        lease.failed(clock::now());
        if self.watched {
            let again = self.pick()?.map(|lease| lease.id());
            prop_assert_eq!(again, Some(id), "a failed connect moves nothing");
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), TestCaseError> {
        // Longer than any grace, and than sessions may take to end.
        pass(&self.table, Duration::from_secs(4));
        pass(&self.table, Duration::from_secs(2));
        self.read_events();
        prop_assert!(
            !matches!(self.table.pick(client(1), &mut Tried::default(), clock::now()), Pick::Wait),
            "waiting ends"
        );
        prop_assert!(self.switches.iter().all(|switch| switch.take().is_some()), "each is answered");
        self.sessions.clear();
        prop_assert!(counts(&self.table).iter().all(|count| *count == 0));
        Ok(())
    }
}

proptest! {
    #[test]
    fn two_never_serve_in_the_same_moment_and_waiting_ends(
        actions in prop::collection::vec(action(), 1..120), watched: bool
    ) {
        let mut model = Model::new(watched);
        for action in actions {
            model.act(action)?;
        }
        model.end()?;
    }
}
