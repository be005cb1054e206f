//! Which clients a service accepts, and how many.
//!
//! A client passes in two steps. Room is [reserved](ServiceLimits::reserve) for it before it is accepted, as far as further
//! clients are to wait in the backlog. Once its address is known, it is [admitted](ServiceLimits::admit) or refused. A client
//! that is refused gives back what was reserved, so that it takes nothing from the others.
//!
//! A proxy says only after the accept which client it connects for. Until then its connection has the place that was
//! reserved, or one that it [takes](ServiceLimits::take_room) as soon as it is accepted.

mod networks;
mod rate;
mod shared_rate;
mod sources;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::places::Places;
use crate::config::{LimitOptions, OverLimit};
use crate::counted::Counted;
use crate::counters::LimitReached;
use networks::Networks;
use rate::{Bucket, Rate, Taken};
pub use shared_rate::{SharedRate, SharedToken};
use sources::{Outcome, Source, SourceLimits, Sources};

/// The limits of a service, and what counts towards them.
pub struct ServiceLimits {
    networks: Networks,
    connections: Option<usize>,
    rate: Option<(u32, Rate)>,
    source: SourceLimits,
    /// What the log says of the rate.
    source_rate: u32,
    over_limit: OverLimit,
    counts: Arc<Counts>,
}

/// What there is of a service. Those that replace each other share it.
struct Counts {
    /// Times are relative to this.
    begun: Instant,
    places: Places,
    /// Connections of the same service in the processes that this one has taken over from. They count as well.
    elsewhere: AtomicUsize,
    bucket: Bucket,
    /// Made when a source is limited for the first time.
    sources: OnceLock<Sources>,
    /// Wakes the workers, which may wait for a place.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Room for a client that is yet to be accepted. Given back on drop.
#[derive(Default)]
pub struct Reservation {
    place: Option<Place>,
    token: Option<Token>,
}

/// One client's place among those of its service and of its source, from accept to close. Given back on drop.
pub struct Place {
    counts: Arc<Counts>,
    /// Its source's, where those are counted.
    slot: Option<u32>,
}

/// What was taken from the bucket. Put back on drop unless it was used.
struct Token {
    counts: Arc<Counts>,
    taken: Taken,
    used: bool,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Connections of the service.
    Connections(usize),
    /// New connections of the service.
    Rate(u32),
    /// Connections of one source.
    SourceConnections(u32),
    /// New connections of one source.
    SourceRate(u32),
}

/// Why no client is accepted now.
#[derive(Debug, PartialEq, Eq)]
pub enum MustWait {
    /// As many are connected as may be. The workers are woken when there may be room.
    UntilWoken(Limit),
    /// They come faster than they may, up to this moment.
    Until(Instant, Limit),
}

/// Why a client is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientRefused {
    /// It has an address that is not allowed.
    Denied,
    /// It is over a limit.
    Over(Limit),
}

impl ClientRefused {
    /// As it is counted.
    pub fn counts_as(&self) -> LimitReached {
        match self {
            ClientRefused::Denied => LimitReached::Denied,
            ClientRefused::Over(Limit::Connections(_)) => LimitReached::ConnectionsReset,
            ClientRefused::Over(Limit::Rate(_)) => LimitReached::RateReset,
            ClientRefused::Over(Limit::SourceConnections(_)) => LimitReached::SourceConnectionsReset,
            ClientRefused::Over(Limit::SourceRate(_)) => LimitReached::SourceRateReset,
        }
    }
}

/// A client that is admitted.
pub struct Permit {
    /// Its place.
    pub place: Place,
    /// False if there was no slot in the table of sources: its source is not limited.
    pub is_source_limited: bool,
}

impl ServiceLimits {
    /// ServiceLimits for a service. If it replaces another one, what there is of that counts for the new limits.
    pub fn new(options: &LimitOptions, before: Option<&ServiceLimits>) -> ServiceLimits {
        let counts = before.map_or_else(|| Arc::new(Counts::new()), |before| Arc::clone(&before.counts));
        let source_rate = options.connection_rate_per_source;
        if options.max_connections_per_source.is_some() || source_rate.is_some() {
            counts.sources.get_or_init(Sources::new);
        }
        ServiceLimits {
            networks: Networks::new(&options.allow, &options.deny),
            connections: options.max_connections,
            rate: options.connection_rate.map(|rate| (rate, Rate::per_second(rate))),
            source: SourceLimits {
                connections: options.max_connections_per_source,
                rate: source_rate.map(Rate::per_second),
            },
            source_rate: source_rate.unwrap_or_default(),
            over_limit: options.over_limit,
            counts,
        }
    }

    /// Has the workers woken when a client leaves whose place one of them waits for. The first call counts.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.counts.wake.get_or_init(|| Box::new(wake));
    }

    /// Looks whether there may be room for one more client, and takes none. To be called before a place elsewhere is
    /// taken, which would have to be given back.
    ///
    /// # Errors
    /// Further clients wait.
    pub fn look_for_room(&self) -> Result<(), MustWait> {
        match (self.over_limit, self.connections) {
            (OverLimit::Wait, Some(most)) if !self.counts.places.has_room_or_await(|| self.own_most()) => {
                Err(MustWait::UntilWoken(Limit::Connections(most)))
            }
            _ => Ok(()),
        }
    }

    /// Reserves room for one client before it is accepted; nothing if further clients do not wait but are reset.
    ///
    /// # Errors
    /// Further clients wait.
    pub fn reserve(&self, now: Instant) -> Result<Reservation, MustWait> {
        if self.over_limit == OverLimit::Reset {
            return Ok(Reservation::default());
        }
        // First, since to put it back wakes nobody.
        let token = self.take_token(now).map_err(|(at, limit)| MustWait::Until(at, limit))?;
        if !self.counts.places.take_or_await(|| self.own_most()) {
            return Err(MustWait::UntilWoken(Limit::Connections(self.connections.unwrap_or(usize::MAX))));
        }
        Ok(Reservation { place: Some(self.place()), token })
    }

    /// Reserves room for a client that cannot wait any longer, above the limits if need be; nothing if clients do not wait
    /// but are reset.
    pub fn reserve_above(&self) -> Reservation {
        let is_taken = self.over_limit == OverLimit::Wait && self.counts.places.take(usize::MAX);
        Reservation { place: is_taken.then(|| self.place()), token: None }
    }

    /// Decides about a client with this address, which has been accepted.
    ///
    /// Nothing else depends on the address: if clients come through a proxy that says who they are, this is called once
    /// that is known, with the reservation from before, of these limits or of those that they have replaced.
    ///
    /// # Errors
    /// Why the client is refused.
    pub fn admit(&self, reservation: Reservation, client: IpAddr, now: Instant) -> Result<Permit, ClientRefused> {
        if !self.networks.allow(client) {
            return Err(ClientRefused::Denied);
        }
        let (mut place, token) = self.with_room(reservation, now)?;
        let outcome = self.enter_source(client, now);
        match outcome {
            Outcome::TooMany => {
                return Err(ClientRefused::Over(Limit::SourceConnections(self.source.connections.unwrap_or_default())));
            }
            Outcome::TooFast => return Err(ClientRefused::Over(Limit::SourceRate(self.source_rate))),
            Outcome::Counted(slot) => place.slot = Some(slot),
            Outcome::NotCounted | Outcome::NoSlot => {}
        }
        token.into_iter().for_each(Token::use_up);
        Ok(Permit { place, is_source_limited: outcome != Outcome::NoSlot })
    }

    /// Takes room for a client that has been accepted, and whose address is yet to come, unless room was reserved for it.
    ///
    /// # Errors
    /// There is none. The client is refused, as it would be if its address were known.
    pub fn take_room(&self, reservation: Reservation, now: Instant) -> Result<Reservation, ClientRefused> {
        self.with_room(reservation, now).map(|(place, token)| Reservation { place: Some(place), token })
    }

    fn with_room(&self, reservation: Reservation, now: Instant) -> Result<(Place, Option<Token>), ClientRefused> {
        match reservation {
            Reservation { place: Some(place), token } => Ok((place, token)),
            Reservation { place: None, .. } => {
                Ok((self.take_place()?, self.take_token(now).map_err(|(_, limit)| ClientRefused::Over(limit))?))
            }
        }
    }

    /// Returns true if the service has as many connections as it may.
    pub fn is_full(&self) -> bool {
        !self.counts.places.has_room(self.own_most())
    }

    /// How many connections of this process count for the limits.
    pub fn own_connections(&self) -> usize {
        self.counts.places.taken()
    }

    /// Sets how many connections other processes have, which count for the limit of the service as well.
    pub fn set_elsewhere(&self, connections: usize) {
        self.counts.elsewhere.store(connections, Ordering::Relaxed);
        if self.counts.places.on_room() {
            self.counts.wake();
        }
    }

    /// The same, by source: an address of each, where they are limited.
    pub fn own_connections_by_source(&self) -> Vec<(IpAddr, usize)> {
        let own = self.counts.sources.get().map(Sources::own).unwrap_or_default();
        own.into_iter().map(|(source, count)| (source.address(), count as usize)).collect()
    }

    /// Sets how many connections of a client's source other processes have, which count for the limit of the source.
    pub fn set_source_elsewhere(&self, client: IpAddr, connections: usize) {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        self.counts.sources.get().into_iter().for_each(|it| it.set_elsewhere(Source::of(client), connections));
    }

    /// Other processes have no connections any more, as far as is known.
    pub fn forget_elsewhere(&self) {
        self.set_elsewhere(0);
        self.counts.sources.get().into_iter().for_each(Sources::forget_elsewhere);
    }

    /// Most connections of this process at a time.
    fn own_most(&self) -> usize {
        let most = self.connections.unwrap_or(usize::MAX);
        most.saturating_sub(self.counts.elsewhere.load(Ordering::Relaxed))
    }

    fn take_place(&self) -> Result<Place, ClientRefused> {
        match self.counts.places.take(self.own_most()) {
            true => Ok(self.place()),
            false => Err(ClientRefused::Over(Limit::Connections(self.connections.unwrap_or(usize::MAX)))),
        }
    }

    /// The place that was just taken.
    fn place(&self) -> Place {
        Place { counts: Arc::clone(&self.counts), slot: None }
    }

    fn take_token(&self, now: Instant) -> Result<Option<Token>, (Instant, Limit)> {
        let Some((per_second, rate)) = self.rate else { return Ok(None) };
        match self.counts.bucket.take(rate, self.counts.time(now)) {
            Ok(taken) => Ok(Some(Token { counts: Arc::clone(&self.counts), taken, used: false })),
            Err(at) => Err((self.counts.begun + Duration::from_nanos(at), Limit::Rate(per_second))),
        }
    }

    fn enter_source(&self, client: IpAddr, now: Instant) -> Outcome {
        let is_limited = self.source.connections.is_some() || self.source.rate.is_some();
        match self.counts.sources.get().filter(|_| is_limited) {
            Some(sources) => sources.enter(Source::of(client), self.source, self.counts.time(now)),
            None => Outcome::NotCounted,
        }
    }
}

impl Counts {
    fn new() -> Counts {
        Counts {
            begun: Instant::now(),
            places: Places::default(),
            elsewhere: AtomicUsize::new(0),
            bucket: Bucket::default(),
            sources: OnceLock::new(),
            wake: OnceLock::new(),
        }
    }

    /// Wakes the workers: there may be room.
    fn wake(&self) {
        self.wake.get().into_iter().for_each(|wake| wake());
    }

    /// Nanoseconds since the beginning, for some centuries.
    fn time(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_nanos() as u64
    }
}

impl Token {
    fn use_up(mut self) {
        self.used = true;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.used {
            self.counts.bucket.put_back(&self.taken, self.counts.time(Instant::now()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (Some(slot), Some(sources)) = (self.slot, self.counts.sources.get()) {
            sources.leave(slot);
        }
        if self.counts.places.give() {
            self.counts.wake();
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = |count| Counted(count, "connection");
        match *self {
            Limit::Connections(most) => write!(f, "{}", connections(most)),
            Limit::Rate(most) => write!(f, "{} a second", connections(most as usize)),
            Limit::SourceConnections(most) => write!(f, "{} from one source", connections(most as usize)),
            Limit::SourceRate(most) => write!(f, "{} a second from one source", connections(most as usize)),
        }
    }
}

#[cfg(test)]
mod tests;
