//! What agents say, beside what the checks find.

use super::reports::{Watch, says, silence};
use super::*;
use crate::checker::protocol::{AgentHealth, AgentWord};
use crate::pool::{AgentMode, AgentState};

const AGENT: &str = "-w tcp -i 10 --rise 2 --fall 2 --agent 1 --agent-interval 4";

impl Watch {
    /// The agent of a destination says this now.
    fn agent_says(&mut self, place: u64, word: &AgentWord) -> Option<Judgement> {
        self.monitor.hear_agent(place, word, self.now)
    }

    /// Whose agents are to be asked in this millisecond.
    fn agents(&mut self, milliseconds: u64) -> Vec<u64> {
        let now = self.at(milliseconds);
        self.monitor.due(now).agents.iter().map(|id| id.serial()).collect()
    }
}

fn word() -> AgentWord {
    AgentWord::default()
}

fn down(words: &str) -> AgentWord {
    AgentWord { health: Some(AgentHealth::Down(words.to_owned())), ..word() }
}

fn up() -> AgentWord {
    AgentWord { health: Some(AgentHealth::Up), ..word() }
}

#[test]
fn its_word_counts_at_once_and_the_checks_go_on_counting_behind_it() {
    let mut watch = Watch::unjudged(AGENT, 1);
    assert_eq!(
        watch.agent_says(0, &down("fail")).expect("it is noted").health.verdict,
        None,
        "nothing was checked yet"
    );
    let first = watch.finds(0, &says(Verdict::Ready));
    assert_eq!((first.health.verdict, first.fit), (Some(Verdict::Down), false));
    assert_eq!(&*first.health.reason, "agent: fail");
    let back = watch.agent_says(0, &up()).expect("a change");
    assert_eq!((back.health.verdict, back.changed_from), (Some(Verdict::Ready), Some(Some(Verdict::Down))));
    assert_eq!(watch.agent_says(0, &up()), None, "that changes nothing");
    // What the checks find meanwhile is known when the agent no longer objects.
    watch.agent_says(0, &down("fail")).expect("a change");
    for _ in 0..2 {
        assert_eq!(watch.finds(0, &silence()).health.verdict, Some(Verdict::Down));
    }
    let still = watch.agent_says(0, &up()).expect("another reason");
    assert_eq!((still.health.verdict, &*still.health.reason), (Some(Verdict::Down), "no answer"));
    assert_eq!(watch.finds(0, &says(Verdict::Ready)).health.verdict, Some(Verdict::Down), "it takes two");
    assert_eq!(watch.finds(0, &says(Verdict::Ready)).health.verdict, Some(Verdict::Ready));
}

#[test]
fn a_percentage_is_exact_and_goes_together_with_a_weight_that_grows() {
    let percent = |percent| AgentWord { percent: Some(percent), ..word() };
    let mut watch = Watch::unjudged(&format!("{AGENT} --slow-start 20 --rise 1 --fall 1"), 1);
    watch.finds(0, &says(Verdict::Ready));
    let mut scale = |number| watch.agent_says(0, &percent(number)).map(|it| it.health.scale);
    assert_eq!([scale(50), scale(51), scale(51), scale(300)], [Some(0.5), Some(0.51), None, Some(3.0)]);
    watch.finds(0, &says(Verdict::Down));
    assert_eq!(watch.finds(0, &says(Verdict::Ready)).health.scale, 3.0 * 0.05);
    let limit = watch.agent_says(0, &percent(0)).expect("a change");
    assert_eq!((limit.health.verdict, limit.fit), (Some(Verdict::Avoid), false));
}

#[test]
fn it_is_asked_once_in_its_interval_and_not_again_before_it_has_answered() {
    let mut watch = Watch::unjudged(AGENT, 2);
    assert_eq!(watch.agents(0), [0, 1]);
    assert!(!watch.monitor.all_are_judged());
    (0..2).for_each(|place| watch.is_ready(place, 1));
    assert!(!watch.monitor.all_are_judged(), "the agents have not been heard");
    assert!((0..2).all(|place| watch.monitor.expects_agent(place, watch.at(2))));
    assert!(watch.monitor.all_are_judged());
    // The first pause is a part of one.
    let first = (2..=4002).find(|time| watch.agents(*time).contains(&0)).expect("it is asked again");
    assert!(!(first..first + 10_000).any(|time| watch.agents(time).contains(&0)), "it has not answered");
    let late = first + 10_000;
    assert!(watch.monitor.expects_agent(0, watch.at(late)));
    assert!(watch.agents(late).contains(&0), "at once, since it is due");
    assert!(watch.monitor.expects_agent(0, watch.at(late + 1)));
    assert!(!watch.agents(late + 3999).contains(&0) && watch.agents(late + 4000).contains(&0));
    watch.monitor.checker_is_gone(watch.at(late + 4100));
    assert!(watch.agents(late + 4100).contains(&0), "what the checker was asked for is asked again");
}

#[test]
fn more_answers_than_questions_are_noticed() {
    let mut watch = Watch::unjudged(AGENT, 1);
    let expected = |watch: &mut Watch| (0..9).take_while(|_| watch.monitor.expects_agent(0, watch.now)).count();
    assert_eq!(expected(&mut watch), 1, "of an earlier watch of the same");
    assert_eq!((watch.agents(0), expected(&mut watch)), (vec![0], 1));
    let mut without = Watch::unjudged("-w tcp", 1);
    assert!(expected(&mut without) == 9, "an agent that is no longer asked may still answer");
    assert_eq!((without.agents(0), without.agent_says(0, &down("x"))), (vec![], None));
}

#[test]
fn other_options_keep_its_word_while_there_is_an_agent() {
    let mut watch = Watch::unjudged(AGENT, 1);
    watch.finds(0, &says(Verdict::Ready));
    let drain = AgentWord { mode: Some(AgentMode::Drain), percent: Some(50), comment: "busy".to_owned(), ..word() };
    assert_eq!(&*watch.agent_says(0, &drain).expect("a change").health.reason, "agent: drain: busy");
    watch.monitor.change_options(options(&AGENT.replace("--agent 1", "--agent 2")), watch.now);
    let health = watch.finds(0, &says(Verdict::Ready)).health;
    assert_eq!((health.verdict, health.scale), (Some(Verdict::Avoid), 0.5));
    watch.monitor.change_options(options("-w tcp -i 10"), watch.now);
    let health = watch.finds(0, &says(Verdict::Ready)).health;
    assert_eq!((health.verdict, health.scale, &*health.reason), (Some(Verdict::Ready), 1.0, "as told"));
}

#[test]
fn what_it_said_to_the_process_before_still_counts() {
    let agent = AgentState { down: Some("fail".into()), percent: 25, ..AgentState::default() };
    let known =
        Health { verdict: Some(Verdict::Down), reason: "agent: fail".into(), scale: 0.25, agent, ..Health::unjudged() };
    let mut watch = Watch::new(&format!("{AGENT} --slow-start 20"), std::slice::from_ref(&known));
    for _ in 0..3 {
        let health = watch.finds(0, &says(Verdict::Ready)).health;
        assert_eq!((health.verdict, &*health.reason, health.scale), (Some(Verdict::Down), "agent: fail", 0.25));
    }
    let back = watch.agent_says(0, &up()).expect("a change");
    assert_eq!(back.health.verdict, Some(Verdict::Ready));
    // Without an agent, nothing of it is left.
    let mut watch = Watch::new("-w tcp --rise 1", &[known]);
    let health = watch.finds(0, &says(Verdict::Ready)).health;
    assert_eq!((health.verdict, health.scale), (Some(Verdict::Ready), 1.0));
}

#[test]
fn sessions_of_one_that_its_agent_takes_out_are_closed_once_another_is_ready_for_certain() {
    let mut watch = Watch::unjudged("-w tcp -i 1 --agent 1", 2);
    (0..2).for_each(|place| _ = watch.finds(place, &says(Verdict::Ready)));
    let closed = |watch: &Watch, reported| -> Vec<_> {
        let others = |it: ToBeClosed| (it.id.serial(), it.elsewhere.unwrap_or_default().len());
        watch.monitor.to_be_closed(reported).into_iter().map(others).collect()
    };
    watch.now += Duration::from_secs(5);
    watch.agent_says(0, &down("maint")).expect("a change");
    assert_eq!(closed(&watch, 0), [(0, 0)], "the other may have gone for the same reason");
    watch.finds(1, &says(Verdict::Ready));
    assert_eq!(closed(&watch, 1), [(0, 1)]);
    // Though the checks find nothing wrong with it.
    watch.finds(0, &says(Verdict::Ready));
    assert_eq!(closed(&watch, 0), [(0, 1)]);
}

#[test]
fn one_that_is_down_is_checked_in_its_own_interval_unless_that_is_in_doubt() {
    let absent = Finding::Answer(Answer { absent: true, ..super::reports::answer(Verdict::Down) });
    let seconds = |watch: &Watch| watch.monitor.next_deadline().map(|next| (next - watch.begun).as_secs_f64());
    let mut watch = Watch::unjudged("-w tcp -i 8 --down-interval 100 --rise 2 --fall 2", 1);
    for (finding, expected) in [
        (says(Verdict::Ready), 8.0),
        (silence(), 2.0),
        (silence(), 100.0),
        (absent, 100.0),
        (says(Verdict::Ready), 2.0),
        (says(Verdict::Ready), 8.0),
        (says(Verdict::Avoid), 8.0),
    ] {
        watch.finds(0, &finding);
        assert_eq!(seconds(&watch), Some(expected), "{finding}");
    }
}
