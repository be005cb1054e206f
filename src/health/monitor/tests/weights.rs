//! What weights are multiplied by: those that grow, and those of destinations that answer slowly.

use super::reports::{Watch, says};
use super::*;

/// The steps in which a weight grows, in milliseconds from now on.
fn steps(watch: &mut Watch) -> Vec<(u128, f64)> {
    let (mut steps, end) = (Vec::new(), watch.now + Duration::from_secs(60));
    while let Some(next) = watch.monitor.next_deadline().filter(|next| *next < end) {
        let Due { checks, scales, .. } = watch.monitor.due(next);
        for (id, _) in checks {
            let timing = Timing { took: Duration::ZERO, is_late: false };
            watch.monitor.report(id.serial(), &says(Verdict::Ready), timing, next).expect("it is watched");
        }
        steps.extend(scales.into_iter().map(|(_, scale)| (next.duration_since(watch.now).as_millis(), scale)));
    }
    steps
}

#[test]
fn the_weight_of_one_that_came_back_grows_in_twenty_steps() {
    let mut watch = Watch::unjudged("-w tcp -i 1000 --rise 1 --fall 1 --slow-start 20", 1);
    assert_eq!(watch.finds(0, &says(Verdict::Ready)).health.scale, 1.0, "it has not been away");
    watch.finds(0, &says(Verdict::Down));
    assert_eq!(watch.finds(0, &says(Verdict::Ready)).health.scale, 0.05);
    let steps = steps(&mut watch);
    let expected: Vec<_> = (1..=20).map(|second| (second * 1000, second as f64 / 20.0)).collect();
    assert_eq!(steps.len(), expected.len(), "{steps:?}");
    for (step, expected) in steps.iter().zip(&expected) {
        assert!(step.0 == expected.0 && (step.1 - expected.1).abs() < 1e-9, "{step:?}, not {expected:?}");
    }
    assert_eq!(steps.last().map(|(_, scale)| *scale), Some(1.0));
}

#[test]
fn a_step_is_no_shorter_than_fifty_milliseconds() {
    let mut watch = Watch::unjudged("-w tcp -i 1000 --rise 1 --fall 1 --slow-start 0.4", 1);
    watch.finds(0, &says(Verdict::Down));
    watch.finds(0, &says(Verdict::Ready));
    assert_eq!(
        steps(&mut watch).iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [50, 100, 150, 200, 250, 300, 350, 400]
    );
}

#[test]
fn without_a_slow_start_or_when_it_falls_meanwhile_nothing_grows() {
    let mut watch = Watch::unjudged("-w tcp -i 1000 --rise 1 --fall 1 --slow-start 0", 1);
    watch.finds(0, &says(Verdict::Down));
    assert_eq!(watch.finds(0, &says(Verdict::Ready)).health.scale, 1.0);
    assert_eq!(steps(&mut watch), []);
    let mut watch = Watch::unjudged("-w tcp -i 1000 --rise 1 --fall 1 --slow-start 20", 1);
    for verdict in [Verdict::Down, Verdict::Ready, Verdict::Avoid] {
        watch.finds(0, &says(verdict));
    }
    assert_eq!(steps(&mut watch), []);
    watch.finds(0, &says(Verdict::Down));
    watch.finds(0, &says(Verdict::Spare));
    assert_eq!(steps(&mut watch), [], "only one that is READY again has been away");
}

#[test]
fn a_weight_goes_on_growing_in_the_next_process() {
    let health = |scale| Health { verdict: Some(Verdict::Ready), scale, ..Health::unjudged() };
    let first = |arguments: &str, health| steps(&mut Watch::new(arguments, &[health])).first().copied();
    let slow_start = "-w tcp -i 1000 --slow-start 20";
    let grown = first(slow_start, health(0.5)).expect("it grows");
    assert!(grown.0 <= 1000 && (0.5..=0.56).contains(&grown.1), "{grown:?}");
    assert_eq!(first(slow_start, health(1.0)), None, "it has grown");
    assert_eq!(first(slow_start, Health { verdict: None, ..health(0.5) }), None, "nothing was known of it");
    assert_eq!(first("-w tcp -i 1000 --slow-start 20 -L 3", health(0.5)), None, "it was slow");
}

#[test]
fn a_destination_weighs_as_much_less_as_it_is_slower_than_the_fastest() {
    let mut watch = Watch::unjudged("-w tcp -L 1", 2);
    assert_eq!(watch.finds_within(0, &says(Verdict::Ready), 10).health.scale, 1.0);
    let mut scale = |took, place| watch.finds_within(place, &says(Verdict::Ready), took).health.scale;
    assert_eq!(scale(20, 1), 0.5);
    assert_eq!(scale(16, 1), 10.0 / 16.0);
    assert_eq!(scale(20, 1), 10.0 / 20.0);
    assert_eq!(scale(40, 1), 0.25);
    assert_eq!(scale(41, 1), 0.25, "that hardly differs");
    assert_eq!(scale(10_000, 1), 0.01, "it still gets clients");
    assert_eq!(scale(5, 1), 1.0);
    assert_eq!(scale(10, 0), 0.5, "the other is the fastest now");
    watch.finds(1, &says(Verdict::Avoid));
    assert_eq!(
        watch.finds_within(0, &says(Verdict::Ready), 10).health.scale,
        1.0,
        "one that is not fit does not count"
    );
}

#[test]
fn the_latency_is_an_average_over_the_last_checks() {
    let mut watch = Watch::unjudged("-w tcp -L 3", 1);
    let mut latency = |took| watch.finds_within(0, &says(Verdict::Ready), took).health.latency.as_millis();
    assert_eq!([latency(10), latency(30), latency(20)], [10, 20, 20]);
    assert_eq!(latency(50), 30, "a third of the way from the average before");
    let latency = watch.finds_within(0, &says(Verdict::Down), 3).health.latency;
    assert_eq!(latency.as_millis(), 30, "one that is not fit keeps its last good one");
    let known = Health { verdict: Some(Verdict::Ready), latency: Duration::from_millis(10), ..Health::unjudged() };
    let mut watch = Watch::new("-w tcp -L 3", &[known]);
    assert_eq!(
        watch.finds_within(0, &says(Verdict::Ready), 40).health.latency.as_millis(),
        20,
        "of another process too"
    );
}
