//! When destinations are checked, and which reports are expected of that.

use super::reports::{Watch, answer, says, silence};
use super::*;

#[test]
fn two_reports_may_come_of_each_check_and_of_one_before() {
    let mut watch = Watch::unjudged("-w tcp -i 1", 1);
    let expected = |watch: &mut Watch| (0..10).take_while(|_| watch.monitor.expects_report(0)).count();
    assert_eq!(watch.due(0), [(0, false)]);
    assert_eq!((expected(&mut watch), expected(&mut watch)), (4, 0), "silence and a late answer, twice");
    watch.is_ready(0, 1);
    assert_eq!((watch.due(1000).len(), expected(&mut watch)), (1, 2));
    for second in 2..10 {
        watch.is_ready(0, second * 1000 - 1);
        assert_eq!(watch.due(second * 1000).len(), 1);
    }
    assert_eq!(expected(&mut watch), 4, "no more are saved up");
    assert!(!watch.monitor.expects_report(7), "that is none");
}

#[test]
fn a_hint_brings_the_next_check_forward_but_not_right_behind_the_last() {
    let mut watch = Watch::unjudged("-w tcp -i 10", 1);
    let id = watch.ids[0];
    assert_eq!((watch.next(), watch.due(0)), (Some(0), vec![(0, false)]));
    watch.is_ready(0, 3);
    assert_eq!(watch.next(), Some(10_000));
    watch.monitor.hint(id, true, watch.at(20));
    assert_eq!(watch.next(), Some(100));
    watch.monitor.hint(id, false, watch.at(150));
    assert_eq!((watch.due(99), watch.due(100)), (vec![], vec![(0, true)]), "the earlier counts, and logs in afresh");
    watch.monitor.hint(id, false, watch.at(110));
    assert_eq!(watch.next(), None, "it is being checked");
    watch.is_ready(0, 150);
    assert_eq!((watch.next(), watch.due(200)), (Some(200), vec![(0, false)]), "the check began before the hint");
    watch.is_ready(0, 250);
    assert_eq!(watch.next(), Some(10_200));
    watch.monitor.hint(id, false, watch.at(5000));
    assert_eq!((watch.due(4999), watch.due(5000)), (vec![], vec![(0, false)]), "at once");
    watch.is_ready(0, 5100);
    assert_eq!((watch.due(14_999), watch.due(15_000)), (vec![], vec![(0, false)]));
}

#[test]
fn what_a_checker_that_is_gone_was_asked_for_is_asked_again_and_nothing_else() {
    let mut watch = Watch::unjudged("-w tcp -i 10", 3);
    assert_eq!(watch.monitor.waits_since(), None);
    assert_eq!(watch.due(0).len(), 3);
    watch.is_ready(0, 5);
    watch.monitor.hint(watch.ids[0], false, watch.at(200));
    assert_eq!(watch.due(200), [(0, false)]);
    watch.is_ready(1, 300);
    assert_eq!(watch.monitor.waits_since(), Some(watch.start), "the oldest");
    watch.monitor.checker_is_gone(watch.at(500));
    assert_eq!(watch.monitor.waits_since(), None);
    assert_eq!((watch.due(499), watch.due(500)), (vec![], vec![(0, false), (2, false)]));
    [0, 2].into_iter().for_each(|place| watch.is_ready(place, 600));
    assert_eq!((watch.monitor.waits_since(), watch.next()), (None, Some(10_000)));
}

#[test]
fn how_soon_a_destination_is_checked_again_depends_on_what_it_was_found_to_be() {
    let absent = Finding::Answer(Answer { absent: true, ..answer(Verdict::Down) });
    let seconds = |watch: &Watch| watch.monitor.next_deadline().map(|next| (next - watch.begun).as_secs_f64());
    let mut watch = Watch::unjudged("-w tcp -i 8 --rise 2 --fall 2", 1);
    for (finding, expected) in [
        (says(Verdict::Ready), 8.0),
        (silence(), 2.0),
        (silence(), 8.0),
        (absent.clone(), 80.0),
        (says(Verdict::Ready), 2.0),
        (says(Verdict::Ready), 8.0),
        (absent, 2.0),
    ] {
        watch.finds(0, &finding);
        assert_eq!(seconds(&watch), Some(expected), "{finding}");
    }
}

#[test]
fn the_first_interval_is_a_part_of_one_so_that_not_all_are_checked_at_once() {
    let mut watch = Watch::unjudged("-w tcp -i 10", 0);
    let (id, start) = (destinations(1)[0].id, watch.start);
    watch.monitor.watch(id, address(0), Health::unjudged(), 0.3, start);
    assert_eq!(watch.due(0).len(), 1);
    watch.is_ready(0, 3);
    assert_eq!((watch.next(), watch.due(3000).len()), (Some(3000), 1));
    watch.is_ready(0, 3003);
    assert_eq!(watch.next(), Some(13_000));
}

#[test]
fn when_one_falls_each_of_the_others_is_asked_once_whether_it_is_still_ready() {
    let mut watch = Watch::unjudged("-w tcp -i 1000 --rise 1 --fall 1", 3);
    assert_eq!(watch.due(0).len(), 3);
    (0..3).for_each(|place| watch.is_ready(place, 3));
    let mut asked = Vec::new();
    for millisecond in [1000, 2000, 3000, 4000] {
        let now = watch.at(millisecond);
        watch.monitor.hint(watch.ids[0], false, now);
        assert_eq!(watch.due(millisecond), [(0, false)]);
        let timing = Timing { took: Duration::ZERO, is_late: false };
        watch.monitor.report(0, &says(Verdict::Down), timing, now).expect("it is watched");
        for (id, _) in watch.due(millisecond + 200) {
            asked.push(id);
            watch.is_ready(id as usize, millisecond + 300);
        }
    }
    asked.sort_unstable();
    assert_eq!(asked, [1, 2]);
}
