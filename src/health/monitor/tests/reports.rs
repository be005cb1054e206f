//! What reports make of destinations: verdicts, objections of the others, and members.

use super::*;
use crate::checker::protocol::GaleraFacts;

/// Destinations that are watched, by their places.
pub(super) struct Watch {
    pub monitor: Monitor,
    pub ids: Vec<DestinationId>,
    pub start: Instant,
    /// When the last check began, and when its report came.
    pub begun: Instant,
    pub now: Instant,
}

impl Watch {
    /// As many destinations as there are healths, known from before.
    pub(super) fn new(arguments: &str, healths: &[Health]) -> Watch {
        let (monitor, start) = (Monitor::new(options(arguments)), Instant::now());
        let ids = destinations(healths.len()).iter().map(|row| row.id).collect();
        let mut watch = Watch { monitor, ids, start, begun: start, now: start };
        for (place, health) in healths.iter().enumerate() {
            watch.monitor.watch(watch.ids[place], address(place), health.clone(), 1.0, start);
        }
        watch
    }

    /// Destinations of which nothing is known.
    pub(super) fn unjudged(arguments: &str, count: usize) -> Watch {
        Watch::new(arguments, &vec![Health::unjudged(); count])
    }

    pub(super) fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    /// A second later, a check that took this long has found this.
    pub(super) fn finds_within(&mut self, place: usize, finding: &Finding, took: u64) -> Judgement {
        self.now += Duration::from_secs(1);
        let timing = Timing { took: Duration::from_millis(took), is_late: false };
        self.begun = self.now - timing.took;
        self.monitor.change(place as u64, |it| _ = it.begin_check(self.begun));
        self.monitor.report(place as u64, finding, timing, self.now).expect("it is watched")
    }

    pub(super) fn finds(&mut self, place: usize, finding: &Finding) -> Judgement {
        self.finds_within(place, finding, 3)
    }

    /// Which are to be checked in this millisecond.
    pub(super) fn due(&mut self, milliseconds: u64) -> Vec<(u64, bool)> {
        let now = self.at(milliseconds);
        self.monitor.due(now).checks.into_iter().map(|(id, fresh)| (id.serial(), fresh)).collect()
    }

    /// A check that ends in this millisecond finds it READY.
    pub(super) fn is_ready(&mut self, place: usize, milliseconds: u64) {
        let (now, timing) = (self.at(milliseconds), Timing { took: Duration::ZERO, is_late: false });
        self.monitor.report(place as u64, &says(Verdict::Ready), timing, now).expect("it is watched");
    }

    /// In which millisecond the next check is due.
    pub(super) fn next(&self) -> Option<u128> {
        self.monitor.next_deadline().map(|next| next.duration_since(self.start).as_millis())
    }
}

pub(super) fn answer(verdict: Verdict) -> Answer {
    let (reason, members) = ("as told".to_owned(), Vec::new());
    Answer { verdict, reason, absent: false, members, members_are_complete: true, galera: None }
}

pub(super) fn says(verdict: Verdict) -> Finding {
    Finding::Answer(answer(verdict))
}

/// A node that is READY, in a primary component with this many members.
fn member_of(uuid: &str, size: u32) -> Finding {
    let (state_uuid, conf_id) = (uuid.to_owned(), 1);
    let facts = GaleraFacts { has_galera: true, state_uuid, conf_id, size, primary: true, recv_queue: 0 };
    Finding::Answer(Answer { galera: Some(facts), ..answer(Verdict::Ready) })
}

fn without_galera() -> Finding {
    Finding::Answer(Answer { galera: Some(GaleraFacts::default()), ..answer(Verdict::Ready) })
}

/// One that is READY, and names the members at these places.
fn names(places: &[usize], are_complete: bool) -> Finding {
    let members = places.iter().map(|place| address(*place)).collect();
    Finding::Answer(Answer { members, members_are_complete: are_complete, ..answer(Verdict::Ready) })
}

pub(super) fn silence() -> Finding {
    Finding::Silence("no answer".to_owned())
}

fn verdict(judgement: &Judgement) -> (Option<Verdict>, &str) {
    (judgement.health.verdict, &judgement.health.reason)
}

const ALONE: &str = "it is in a cluster of its own (b, 1 members, not a, 2 members)";

#[test]
fn a_node_in_a_smaller_cluster_is_judged_again_and_goes_down_until_it_is_in_the_larger_one() {
    let mut watch = Watch::unjudged("-w galera -i 10 --rise 2 --fall 3", 3);
    assert_eq!(verdict(&watch.finds(2, &member_of("b", 1))), (Some(Verdict::Ready), "as told"), "it stands alone");
    watch.finds(0, &member_of("a", 2));
    assert_eq!(watch.monitor.next_deadline(), Some(watch.start), "the third has not been asked yet");
    watch.finds(1, &member_of("a", 2));
    assert_eq!(watch.monitor.next_deadline(), Some(watch.now - Duration::from_secs(1)), "it is asked again at once");
    assert!(!watch.monitor.all_are_judged(), "clients of the start wait for that as well");
    let objected = watch.finds(2, &member_of("b", 1));
    assert_eq!(verdict(&objected), (Some(Verdict::Avoid), ALONE), "it is put aside at its first word");
    assert!(watch.monitor.all_are_judged());
    assert!(!objected.fit);
    watch.finds(0, &member_of("a", 2));
    assert!(watch.monitor.all_are_judged(), "an objection is news once");
    watch.finds(2, &member_of("b", 1));
    assert_eq!(verdict(&watch.finds(2, &member_of("b", 1))), (Some(Verdict::Down), ALONE));
    watch.finds(2, &member_of("a", 2));
    assert_eq!(verdict(&watch.finds(2, &member_of("a", 2))), (Some(Verdict::Ready), "as told"));
    watch.monitor.forget(watch.ids[0]);
    watch.finds(1, &member_of("a", 1));
    assert!(watch.monitor.all_are_judged(), "a smaller cluster that is the only one is objected to by nobody");
}

#[test]
fn the_silence_of_a_node_to_which_others_object_is_silence_and_no_word() {
    let mut watch = Watch::unjudged("-w galera --rise 2 --fall 3", 2);
    watch.finds(1, &member_of("b", 1));
    watch.finds(0, &member_of("a", 2));
    let silent = watch.finds(1, &silence());
    assert_eq!((silent.health.verdict, silent.fit), (Some(Verdict::Ready), false));
    watch.finds(1, &silence());
    assert_eq!(verdict(&watch.finds(1, &silence())), (Some(Verdict::Down), "no answer"));
}

/// However many members it claims that its cluster has.
#[test]
fn a_node_that_says_that_it_cannot_serve_objects_to_no_other_one() {
    let mut watch = Watch::unjudged("-w galera --rise 1 --fall 1", 2);
    let Finding::Answer(large) = member_of("b", 9) else { unreachable!() };
    watch.finds(0, &Finding::Answer(Answer { verdict: Verdict::Down, ..large.clone() }));
    assert_eq!(watch.finds(1, &member_of("a", 2)).health.verdict, Some(Verdict::Ready));
    watch.finds(0, &Finding::Answer(Answer { verdict: Verdict::Avoid, ..large }));
    assert_eq!(
        watch.finds(1, &member_of("a", 2)).health.verdict,
        Some(Verdict::Down),
        "one that keeps its sessions does"
    );
}

#[test]
fn what_a_silent_node_said_counts_until_it_is_down() {
    let mut watch = Watch::unjudged("-w galera --rise 1 --fall 2", 2);
    watch.finds(0, &member_of("a", 2));
    watch.finds(1, &member_of("b", 1));
    watch.finds(0, &silence());
    assert_eq!(verdict(&watch.finds(1, &member_of("b", 1))), (Some(Verdict::Down), ALONE), "one check was missed");
    assert_eq!(watch.finds(0, &silence()).health.verdict, Some(Verdict::Down));
    assert_eq!(watch.finds(1, &member_of("b", 1)).health.verdict, Some(Verdict::Ready), "it is the only cluster");
}

#[test]
fn a_node_without_galera_is_fit_until_another_one_shows_it() {
    for (probe, expected) in [("-w galera", Verdict::Avoid), ("-w galera:require-galera=no", Verdict::Ready)] {
        let mut watch = Watch::unjudged(probe, 2);
        assert_eq!(watch.finds(0, &without_galera()).health.verdict, Some(Verdict::Ready), "{probe}");
        assert_eq!(watch.finds(0, &without_galera()).health.verdict, Some(Verdict::Ready), "{probe}");
        watch.finds(1, &member_of("a", 1));
        assert_eq!(watch.finds(0, &without_galera()).health.verdict, Some(expected), "{probe}");
        watch.monitor.forget(watch.ids[1]);
        assert_eq!(watch.finds(0, &without_galera()).health.verdict, Some(expected), "{probe}: once seen");
    }
}

#[test]
fn members_are_those_that_fit_nodes_name_where_they_are_asked_for() {
    let mut watch = Watch::unjudged("-w galera -D", 1);
    assert_eq!(watch.finds(0, &names(&[0, 5], true)).members, [address(0), address(5)]);
    let down = Finding::Answer(Answer { members: vec![address(5)], ..answer(Verdict::Down) });
    assert_eq!(watch.finds(0, &down).members, []);
    let mut watch = Watch::unjudged("-w galera", 1);
    assert_eq!(watch.finds(0, &names(&[0, 5], true)).members, []);
}

#[test]
fn a_node_has_left_after_eight_failures_if_no_fit_one_names_it() {
    let mut watch = Watch::unjudged("-w galera -D", 2);
    watch.finds(0, &names(&[0, 1], true));
    (1..=9).for_each(|count| assert!(!watch.finds(1, &silence()).has_left, "named, {count} failures"));
    watch.finds(0, &names(&[0], false));
    assert!(!watch.finds(1, &silence()).has_left, "the names of some are not known yet");
    watch.finds(0, &names(&[0], true));
    assert!(watch.finds(1, &silence()).has_left);
    watch.finds(1, &names(&[], true));
    for count in 1..=9 {
        let failure = if count % 2 == 0 { silence() } else { says(Verdict::Down) };
        assert_eq!(watch.finds(1, &failure).has_left, count >= 8, "{count} failures");
    }
    watch.finds(0, &silence());
    assert!(!watch.finds(1, &silence()).has_left, "no fit one knows");
    let mut watch = Watch::unjudged("-w galera -D", 1);
    (0..20).for_each(|_| assert!(!watch.finds(0, &silence()).has_left, "no other one knows"));
}

#[test]
fn a_reason_is_that_of_the_last_check_which_agreed_with_the_verdict() {
    let mut watch = Watch::unjudged("-w tcp --rise 2 --fall 2", 1);
    let because = |verdict, reason: &str| Finding::Answer(Answer { reason: reason.to_owned(), ..answer(verdict) });
    for (finding, expected) in [
        (because(Verdict::Spare, "it donates"), (Verdict::Spare, "it donates")),
        (because(Verdict::Spare, "it has joined"), (Verdict::Spare, "it has joined")),
        (silence(), (Verdict::Spare, "it has joined")),
        (because(Verdict::Ready, ""), (Verdict::Spare, "it has joined")),
        (because(Verdict::Ready, ""), (Verdict::Ready, "")),
    ] {
        let judgement = watch.finds(0, &finding);
        assert_eq!(verdict(&judgement), (Some(expected.0), expected.1), "{finding}");
    }
}

#[test]
fn clients_that_wait_go_by_the_verdict_of_before_when_a_check_cannot_be_made() {
    for (before, fit) in
        [(Verdict::Ready, true), (Verdict::Spare, true), (Verdict::Avoid, false), (Verdict::Down, false)]
    {
        for finding in [Finding::Pause, Finding::Shortage("no descriptors".to_owned())] {
            let mut watch = Watch::unjudged("-w tcp -i 5", 1);
            watch.finds(0, &says(before));
            let judgement = watch.finds(0, &finding);
            assert_eq!(verdict(&judgement), (Some(before), "as told"));
            assert_eq!((judgement.fit, judgement.changed_from), (fit, None), "{before}, {finding}");
            assert_eq!(watch.monitor.next_deadline(), Some(watch.now + Duration::from_secs(5)));
        }
    }
}

#[test]
fn every_destination_of_which_nothing_is_known_is_judged_before_clients_are_let_in() {
    let known = Health { verdict: Some(Verdict::Down), ..Health::unjudged() };
    let mut watch = Watch::new("-w tcp", &[Health::unjudged(), known, Health::unjudged(), Health::unjudged()]);
    watch.finds(0, &silence());
    assert!(!watch.monitor.all_are_judged());
    watch.finds(3, &Finding::Pause);
    assert!(!watch.monitor.all_are_judged());
    watch.monitor.forget(watch.ids[2]);
    assert!(watch.monitor.all_are_judged());
}

#[test]
fn a_report_counts_for_a_destination_that_is_watched_where_it_is() {
    let mut watch = Watch::unjudged("-w tcp", 2);
    let ids = watch.ids.clone();
    assert!(watch.monitor.is_watched(ids[1]) && watch.monitor.is_watched_at(1, address(1)));
    assert!(!watch.monitor.is_watched_at(1, address(0)) && !watch.monitor.is_watched_at(7, address(1)));
    assert_eq!(watch.monitor.addresses().collect::<Vec<_>>(), [(ids[0], address(0)), (ids[1], address(1))]);
    watch.monitor.forget(ids[1]);
    assert!(!watch.monitor.is_watched(ids[1]) && !watch.monitor.is_watched_at(1, address(1)));
    assert!(
        watch
            .monitor
            .report(1, &says(Verdict::Ready), Timing { took: Duration::ZERO, is_late: false }, watch.now)
            .is_none()
    );
    watch.monitor.hint(ids[1], true, watch.now);
    assert_eq!(watch.due(0), [(0, false)], "what is forgotten is not checked");
}

#[test]
fn sessions_of_one_that_was_down_already_are_closed_when_another_is_found_ready() {
    let known = |verdict| Health { verdict: Some(verdict), ..Health::unjudged() };
    for (other, expected) in [(Verdict::Ready, 1), (Verdict::Avoid, 0)] {
        let mut watch = Watch::new("-w tcp", &[known(Verdict::Down), known(Verdict::Ready), known(Verdict::Ready)]);
        watch.monitor.forget(watch.ids[2]);
        watch.finds(0, &silence());
        watch.finds(0, &silence());
        watch.finds(1, &says(other));
        let closed = |watch: &Watch, reported| {
            let closed = watch.monitor.to_be_closed(reported).into_iter();
            closed.filter(|it| it.elsewhere.as_ref().is_some_and(|ids| !ids.is_empty())).count()
        };
        assert_eq!(closed(&watch, 1), expected, "{other}");
        watch.finds(0, &silence());
        assert_eq!(closed(&watch, 0), expected, "{other}");
        assert_eq!(closed(&watch, 2), 0, "it is not watched");
        watch.monitor.sessions_are_closed(watch.ids[0]);
        assert_eq!(closed(&watch, 1) + closed(&watch, 0), 0, "once");
    }
}
