//! What a connection does with its flows, and what must be true of them after each step.

use std::rc::Rc;

use super::kernel::{ModelSocket, World};
use super::tcp::{Act, End};
use crate::worker::connection::{Ending, Next};
use crate::worker::duplex::{Direction, Duplex};
use crate::worker::flow::{Failure, Progress, Splicing, Tools, Traffic};
use crate::worker::pipe::PipeBudget;
use crate::worker::source::Sign;

/// Bytes that are copied at a time: as few as still leave a part to be received ahead.
const SCRATCH: usize = 64;
/// Bytes that may be moved in one turn, but for the last read.
const BUDGET: usize = 8 * SCRATCH;

/// What the machine is like.
#[derive(Debug, Clone)]
pub struct Machine {
    pub splicing: Splicing,
    /// How many pipes there may be.
    pub pipes: usize,
    pub pipe_capacity: usize,
    /// Bytes that may be on their way to the client and to the server.
    pub capacities: [usize; 2],
}

/// What happens next.
#[derive(Debug, Clone)]
pub enum Step {
    /// A peer does something.
    Act(End, Act),
    /// A peer does something while the relay is at work on what comes next.
    Meanwhile(End, Act),
    /// A signal interrupts the relay's next call.
    Interrupt,
    /// The event loop comes to the event of this socket, if there is one.
    Event(End),
    /// The event loop comes to the unfinished connections.
    Turn,
    /// An attempt on a destination begins, while there is none.
    Attempt,
    /// The destination accepts.
    Accepted,
}

/// A connection.
pub struct Relay {
    world: Rc<World>,
    client: ModelSocket,
    server: ModelSocket,
    flows: Duplex<ModelSocket>,
    tools: Tools<ModelSocket>,
    is_relaying: bool,
    unfinished: bool,
    closed: Option<Ending>,
}

impl Relay {
    pub fn new(machine: Machine) -> Relay {
        let world = World::new(machine.capacities, machine.pipe_capacity);
        let socket = |end| ModelSocket { world: Rc::clone(&world), end };
        let mut flows = Duplex::new(true);
        // As for any client that was just accepted.
        flows.up.hear(Sign::Readable);
        Relay {
            client: socket(End::Client),
            server: socket(End::Server),
            flows,
            tools: Tools::with_scratch(SCRATCH, PipeBudget::new(machine.pipes), machine.splicing),
            world,
            is_relaying: false,
            unfinished: false,
            closed: None,
        }
    }

    pub fn step(&mut self, step: Step) {
        if self.closed.is_some() {
            return;
        }
        match step {
            // There is no such peer yet.
            Step::Act(End::Server, _) | Step::Meanwhile(End::Server, _) | Step::Event(End::Server)
                if !self.is_relaying => {}
            Step::Act(end, act) => self.world.act(end, act),
            Step::Meanwhile(end, act) => self.world.act_meanwhile(end, act),
            Step::Interrupt => self.world.interrupt(),
            Step::Event(end) => self.on_event(end),
            Step::Turn => self.turn(),
            Step::Attempt if !self.is_relaying => self.attempt(),
            Step::Accepted if !self.is_relaying => {
                self.is_relaying = true;
                let next = self.relay();
                self.follow(next);
            }
            Step::Attempt | Step::Accepted => {}
        }
    }

    /// As `Connection::attempt` does before it opens a socket, after the attempt before has been given up.
    fn attempt(&mut self) {
        self.flows.down.forget_source();
        self.world.begin_pump();
        let received = self.flows.up.receive_ahead(&self.client, &mut self.tools, &mut Traffic::default());
        if received.is_err() {
            self.follow(Next::Close(Ending::Reset));
        } else if self.flows.up.has_ended_without_a_word() {
            assert_eq!(self.world.tcp(End::Client).sent_by_peer, 0, "a client is dropped that has sent something");
            self.follow(Next::Close(Ending::Clean));
        }
    }

    /// As `Connection::on_event`.
    fn on_event(&mut self, end: End) {
        let Some(readiness) = self.world.poll(end) else { return };
        let (source, sink) = match end {
            End::Client => (&mut self.flows.up, &mut self.flows.down),
            End::Server => (&mut self.flows.down, &mut self.flows.up),
        };
        if let Some(sign) = readiness.sign {
            source.hear(sign);
        }
        if readiness.writable {
            sink.sink_is_writable();
        }
        let next = match readiness.error {
            true if !self.is_relaying => Next::Close(Ending::Reset),
            _ if !self.is_relaying => Next::Wait,
            false if self.unfinished || self.flows.carries_bulk() => Next::Again,
            error => match self.relay() {
                Next::Close(ending) => Next::Close(ending),
                _ if error && self.socket(end).take_error().is_some() => Next::Close(Ending::Reset),
                next => next,
            },
        };
        self.follow(next);
    }

    fn turn(&mut self) {
        if std::mem::take(&mut self.unfinished) {
            let next = self.relay();
            self.follow(next);
        }
    }

    /// As `Connection::relay`.
    fn relay(&mut self) -> Next {
        let mut again = false;
        for direction in Direction::BOTH {
            match self.pump(direction) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::Unfinished) => again = true,
                Ok(Progress::Ended) => {
                    if self.flows.pass_on_end(direction) {
                        self.socket(sink(direction)).shut_down();
                    }
                }
                Err(Failure::Source(_)) => return Next::Close(Ending::Reset),
                Err(Failure::Sink(_)) => {
                    self.flows.sink_failed(direction);
                    again = true;
                }
            }
        }
        self.flows.next(again)
    }

    fn pump(&mut self, direction: Direction) -> Result<Progress, Failure> {
        self.world.begin_pump();
        let (calls, moved) = (self.calls(), self.moved(direction));
        let mut traffic = Traffic::default();
        let progress = self.flows.pump(direction, &self.client, &self.server, &mut self.tools, &mut traffic);
        let now = self.moved(direction);
        assert_eq!((traffic.received, traffic.sent), (now.0 - moved.0, now.1 - moved.1), "what is counted");
        assert_eq!(traffic.receive_calls + traffic.send_calls, self.calls() - calls, "the calls that are counted");
        let progress = progress?;
        let flow = if direction == Direction::Up { &self.flows.up } else { &self.flows.down };
        let sink = self.world.tcp(sink(direction));
        assert!(traffic.received < BUDGET + SCRATCH, "{} bytes in one turn", traffic.received);
        assert!(progress != Progress::Unfinished || traffic.received >= BUDGET, "a turn that ends too soon");
        assert!(progress != Progress::Ended || !flow.holds_anything(), "an end while bytes are held");
        assert!(!flow.holds_anything() || sink.awaits_space(), "bytes are held, and no event will come");
        let has_pipe = flow.is_bulk() && traffic.received < SCRATCH;
        assert!(!has_pipe || flow.holds_anything(), "an empty pipe is kept");
        Ok(progress)
    }

    /// Bytes that were read in one direction, and those that were taken for its sink.
    fn moved(&self, direction: Direction) -> (usize, usize) {
        (self.world.tcp(source(direction)).taken(), self.world.tcp(sink(direction)).accepted)
    }

    fn follow(&mut self, next: Next) {
        match next {
            // It never looks for a destination.
            Next::Wait | Next::Connect => {}
            Next::Again => self.unfinished = true,
            Next::Close(ending) => self.closed = Some(ending),
        }
    }

    /// Has everything come to pass that follows from what the peers have done, and then checks what must be true: all that
    /// can be moved was moved.
    pub fn settle(&mut self) {
        self.world.catch_up();
        self.step(Step::Attempt);
        self.step(Step::Accepted);
        let mut turns = 0;
        while self.has_work() {
            End::BOTH.into_iter().for_each(|end| self.step(Step::Event(end)));
            self.step(Step::Turn);
            turns += 1;
            assert!(turns < 1000, "it never comes to rest");
        }
        self.check();
    }

    /// [`Relay::settle`], while both peers read all that they are sent.
    pub fn settle_with_readers(&mut self) {
        loop {
            self.settle();
            let moved = self.accepted();
            End::BOTH.into_iter().for_each(|end| self.step(Step::Act(end, Act::Reads(usize::MAX))));
            self.settle();
            if self.accepted() == moved {
                return;
            }
        }
    }

    /// How it was closed.
    pub fn closed(&self) -> Option<Ending> {
        self.closed
    }

    /// Calls made so far.
    pub fn calls(&self) -> usize {
        self.world.calls.get()
    }

    /// Bytes that went through pipes so far.
    pub fn spliced(&self) -> usize {
        self.world.spliced.get()
    }

    fn has_work(&self) -> bool {
        let has_event = |end: &End| self.world.tcp(*end).has_event();
        self.closed.is_none() && (self.unfinished || End::BOTH.iter().any(has_event))
    }

    /// Bytes that were taken for the client and for the server.
    pub fn accepted(&self) -> [usize; 2] {
        End::BOTH.map(|end| self.world.tcp(end).accepted)
    }

    fn check(&self) {
        match self.closed {
            None => Direction::BOTH.into_iter().for_each(|direction| self.check_open(direction)),
            Some(Ending::Clean) if self.is_relaying => {
                Direction::BOTH.into_iter().for_each(|direction| self.check_delivered(direction));
            }
            // A client that said nothing, and costs no destination a connection.
            Some(Ending::Clean) => assert_eq!(self.world.tcp(End::Client).sent_by_peer, 0),
            Some(_) => self.check_reset(),
        }
    }

    /// Nothing is stuck where no event will come.
    fn check_open(&self, direction: Direction) {
        let (from, to) = (self.world.tcp(source(direction)), self.world.tcp(sink(direction)));
        assert!(!from.reset_by_peer, "a reset is not passed on");
        let waits_for_room = !to.is_writable() && to.awaits_space();
        assert!(!from.has_something() || from.is_relayed(&to) || waits_for_room, "{direction:?} is stuck");
        assert!(!to.is_corked(), "bytes are kept back for an end that does not come");
        let (client_has_all, server_has_all) = self.flows.have_got_all();
        let has_all = if direction == Direction::Up { server_has_all } else { client_has_all };
        assert_eq!(has_all, from.is_relayed(&to), "whether all has arrived {direction:?}");
        assert_eq!(has_all, to.is_shut_down(), "whether the end was passed on {direction:?}");
    }

    fn check_delivered(&self, direction: Direction) {
        let (from, to) = (self.world.tcp(source(direction)), self.world.tcp(sink(direction)));
        assert!(from.is_relayed(&to), "closed while {direction:?} has not come to its end");
    }

    /// A reset has a reason, and what was sent before it arrives where there was room for it.
    fn check_reset(&self) {
        let resetting: Vec<End> = End::BOTH.into_iter().filter(|end| self.world.tcp(*end).reset_by_peer).collect();
        assert!(!resetting.is_empty(), "a reset without a reason");
        if let ([end], true) = (resetting.as_slice(), self.is_relaying) {
            let (from, to) = (self.world.tcp(*end), self.world.tcp(end.opposite()));
            let has_room = to.capacity >= from.sent_by_peer && from.undelivered_at_reset <= BUDGET;
            assert!(
                !has_room || from.has_sent_urgent || to.accepted == from.sent_by_peer,
                "{} bytes are lost that the {end:?} had sent before its reset",
                from.sent_by_peer - to.accepted
            );
        }
    }

    /// Checks the end of the story, in which both peers end what they have to say.
    pub fn finish(&mut self) {
        self.settle_with_readers();
        End::BOTH.into_iter().for_each(|end| self.step(Step::Act(end, Act::Ends)));
        self.settle_with_readers();
        assert!(self.closed.is_some(), "both sides have ended, and it is still open");
    }

    fn socket(&self, end: End) -> &ModelSocket {
        if end == End::Client { &self.client } else { &self.server }
    }
}

fn source(direction: Direction) -> End {
    sink(direction).opposite()
}

fn sink(direction: Direction) -> End {
    if direction == Direction::Up { End::Server } else { End::Client }
}
