//! How fast all services together take new connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::rate::{Bucket, Rate, Taken};

/// A rate of new connections that services share, and that may change. Without one, it costs a look.
pub struct SharedRate {
    /// Times are relative to this.
    begun: Instant,
    /// 0: there is none.
    per_second: AtomicU32,
    bucket: Bucket,
}

/// What a client that is about to be accepted has taken. Put back on drop unless it was used.
pub struct SharedToken {
    taken: Option<(Arc<SharedRate>, Taken)>,
}

impl SharedRate {
    /// No rate.
    pub fn unlimited() -> Arc<SharedRate> {
        Arc::new(SharedRate { begun: Instant::now(), per_second: AtomicU32::new(0), bucket: Bucket::default() })
    }

    /// Takes so many connections a second from now on; `None`: as many as come.
    pub fn set(&self, per_second: Option<u32>) {
        self.per_second.store(per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes what one more connection needs.
    ///
    /// # Errors
    /// They come too fast; when there may be one more, and the rate.
    pub fn take(self: &Arc<Self>, now: Instant) -> Result<SharedToken, (Instant, u32)> {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second == 0 {
            return Ok(SharedToken { taken: None });
        }
        match self.bucket.take(Rate::per_second(per_second), self.time(now)) {
            Ok(taken) => Ok(SharedToken { taken: Some((Arc::clone(self), taken)) }),
            Err(at) => Err((self.begun + Duration::from_nanos(at), per_second)),
        }
    }

    fn time(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_nanos() as u64
    }
}

impl SharedToken {
    /// The client was accepted.
    pub fn use_up(mut self) {
        self.taken = None;
    }
}

impl Drop for SharedToken {
    fn drop(&mut self) {
        if let Some((shared, taken)) = self.taken.take() {
            shared.bucket.put_back(&taken, shared.time(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_as_many_as_the_rate_and_what_is_not_used_is_put_back() {
        let (shared, now) = (SharedRate::unlimited(), Instant::now());
        let take = |at: Instant| shared.take(at).map_err(|(at, _)| at);
        (0..1000).for_each(|_| take(now).map(SharedToken::use_up).expect("there is no rate"));
        shared.set(Some(4));
        (0..100).for_each(|_| drop(take(now).expect("all are put back")));
        // What was put back late was not there in the meantime.
        let later = now + Duration::from_secs(10);
        (0..4).for_each(|_| take(later).map(SharedToken::use_up).expect("a full bucket"));
        let at = take(later).map(SharedToken::use_up).expect_err("it is empty");
        assert!(at > later && at <= later + Duration::from_millis(250));
        take(at).map(SharedToken::use_up).expect("it was said to be then");
        shared.set(None);
        take(later).map(SharedToken::use_up).expect("there is no rate any more");
    }
}
