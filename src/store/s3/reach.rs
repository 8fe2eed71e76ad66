//! Whether an endpoint has answered yet, and whether it still does. All requests of a command to the same endpoint
//! share this state: a service that is not up yet is waited for once, and a dead one is given up by all.

use crate::process::locks::lock;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// A wait is announced once it has lasted this long.
const ANNOUNCED_AFTER: Duration = Duration::from_secs(1);
/// A name that does not exist is tried for at most this long.
const UNKNOWN_NAME: Duration = Duration::from_secs(15);

/// The state of each endpoint, by URL. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct EndpointStates(Arc<Mutex<BTreeMap<String, Arc<EndpointState>>>>);

impl EndpointStates {
    /// The state of `endpoint` (None: AWS's).
    pub(super) fn of(&self, endpoint: Option<&str>) -> Arc<EndpointState> {
        let name = endpoint.unwrap_or_default().trim_end_matches('/').to_owned();
        Arc::clone(lock(&self.0).entry(name).or_default())
    }
}

/// Receives the messages that are for the user while a request is still out.
#[derive(Clone)]
pub struct Announcer(Arc<dyn Fn(&str) + Send + Sync>);

impl Announcer {
    /// Calls `say` with each message.
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(say))
    }
}

impl Default for Announcer {
    /// Drops all messages.
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Announcer(…)")
    }
}

/// Why no connection could be established, if that may pass while a service starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreachable {
    /// Host and port, and the proxy on the way.
    pub(super) address: String,
    /// For example `connection refused`.
    pub(super) reason: &'static str,
    /// The resolver says that the name does not exist.
    pub(super) is_unknown_name: bool,
}

/// How long a request may go on trying to connect to an endpoint that has never answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StartWait {
    /// The endpoint is waited for, at most this much longer.
    Left(Duration),
    /// The wait has ended after `waited`. `was_over`: another request had found that before.
    Over { waited: Duration, was_over: bool },
}

/// What is known about an endpoint.
#[derive(Debug)]
pub(super) struct EndpointState {
    created: Instant,
    /// A request was answered, by any status but those of servers in trouble.
    has_answered: AtomicBool,
    start: Mutex<Start>,
    /// Milliseconds after `created` of the last bytes of any body. 0: none have arrived yet.
    progress_ms: AtomicU64,
    /// A request ended for want of progress, and no request has made any since.
    is_dead: AtomicBool,
    /// Whether the port of a plain HTTP endpoint speaks TLS. Asked at most once.
    pub(super) speaks_tls: OnceCell<bool>,
}

#[derive(Debug, Default)]
struct Start {
    /// The first attempt to connect began then.
    begun: Option<Instant>,
    is_announced: bool,
    /// The wait ended after this time.
    over_after: Option<Duration>,
}

impl Default for EndpointState {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            has_answered: AtomicBool::new(false),
            start: Mutex::default(),
            progress_ms: AtomicU64::new(0),
            is_dead: AtomicBool::new(false),
            speaks_tls: OnceCell::new(),
        }
    }
}

impl EndpointState {
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Relaxed)
    }

    pub(super) fn answered(&self) {
        if !self.has_answered() {
            self.has_answered.store(true, Relaxed);
        }
    }

    /// A request failed to connect: its attempt began at `begun`. The endpoint is waited for up to `most` from the
    /// first attempt on, a name that does not exist up to [`UNKNOWN_NAME`].
    pub(super) fn wait_for_start(
        &self,
        why: &Unreachable,
        begun: Instant,
        most: Duration,
        announcer: &Announcer,
    ) -> StartWait {
        let most = if why.is_unknown_name { most.min(UNKNOWN_NAME) } else { most };
        let mut start = lock(&self.start);
        let waited = start.begun.get_or_insert(begun).elapsed();
        if waited >= most {
            let was_over = start.over_after.is_some();
            return StartWait::Over { waited: *start.over_after.get_or_insert(waited), was_over };
        }
        let is_first = waited >= ANNOUNCED_AFTER && !std::mem::replace(&mut start.is_announced, true);
        drop(start);
        if is_first {
            let Unreachable { address, reason, .. } = why;
            (announcer.0)(&format!("waiting for {address}: {reason} (up to {})", seconds(most)));
        }
        StartWait::Left(most - waited)
    }

    /// Bytes of a body have arrived.
    pub(super) fn progressed(&self) {
        self.progress_ms.fetch_max(self.now_ms(), Relaxed);
        if self.is_dead() {
            self.is_dead.store(false, Relaxed);
        }
    }

    /// Whether bytes of any body have arrived within the last `window`.
    pub(super) fn has_progressed_within(&self, window: Duration) -> bool {
        let last = self.progress_ms.load(Relaxed);
        last > 0 && u128::from(self.now_ms().saturating_sub(last)) < window.as_millis()
    }

    /// A request ended after `limit` without progress. If no other request has made progress either, the endpoint
    /// counts as dead.
    pub(super) fn stalled(&self, limit: Duration) {
        if !self.has_progressed_within(limit) {
            self.is_dead.store(true, Relaxed);
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Relaxed)
    }

    /// At least 1.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// `60 s`, or `0.5 s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const LIMIT: Duration = Duration::from_secs(60);

    fn refused() -> Unreachable {
        Unreachable { address: "minio:9000".into(), reason: "connection refused", is_unknown_name: false }
    }

    fn heard() -> (Announcer, Arc<Mutex<Vec<String>>>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        (Announcer::new(move |text| heard.lock().unwrap().push(text.to_owned())), said)
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_starts_is_waited_for_once_by_all() {
        let states = EndpointStates::default();
        let state = states.of(Some("http://minio:9000/"));
        let same = states.of(Some("http://minio:9000"));
        let (announcer, said) = heard();
        let begun = Instant::now();
        let wait = |state: &EndpointState, begun| state.wait_for_start(&refused(), begun, LIMIT, &announcer);
        assert_eq!(wait(&state, begun), StartWait::Left(LIMIT));
        advance(Duration::from_millis(999)).await;
        assert_eq!(wait(&same, begun), StartWait::Left(LIMIT - Duration::from_millis(999)));
        assert!(said.lock().unwrap().is_empty());
        advance(Duration::from_millis(1)).await;
        assert_eq!(wait(&state, begun), StartWait::Left(Duration::from_secs(59)));
        advance(Duration::from_secs(58)).await;
        // Another database begins now: the wait is the same.
        assert_eq!(wait(&same, Instant::now()), StartWait::Left(Duration::from_secs(1)));
        advance(Duration::from_secs(1)).await;
        assert_eq!(wait(&state, begun), StartWait::Over { waited: LIMIT, was_over: false });
        advance(Duration::from_secs(5)).await;
        assert_eq!(wait(&same, Instant::now()), StartWait::Over { waited: LIMIT, was_over: true });
        assert_eq!(*said.lock().unwrap(), ["waiting for minio:9000: connection refused (up to 60 s)"]);
        // Another endpoint has a wait of its own.
        assert_eq!(wait(&states.of(None), Instant::now()), StartWait::Left(LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_exist_is_tried_for_a_shorter_time() {
        let state = EndpointState::default();
        let unknown = Unreachable { reason: "no such name", is_unknown_name: true, ..refused() };
        let (announcer, said) = heard();
        let begun = Instant::now();
        let wait = |why: &Unreachable| state.wait_for_start(why, begun, LIMIT, &announcer);
        advance(Duration::from_secs(14)).await;
        assert_eq!(wait(&unknown), StartWait::Left(Duration::from_secs(1)));
        assert_eq!(*said.lock().unwrap(), ["waiting for minio:9000: no such name (up to 15 s)"]);
        advance(Duration::from_secs(1)).await;
        // The name exists now, but nothing listens yet.
        assert_eq!(wait(&refused()), StartWait::Left(Duration::from_secs(45)));
        assert_eq!(wait(&unknown), StartWait::Over { waited: Duration::from_secs(15), was_over: false });
        let short = Duration::from_secs(2);
        let state = EndpointState::default();
        assert_eq!(state.wait_for_start(&unknown, Instant::now(), short, &announcer), StartWait::Left(short));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_dead_while_no_request_makes_progress() {
        let state = EndpointState::default();
        state.stalled(LIMIT);
        assert!(state.is_dead());
        state.progressed();
        assert!(!state.is_dead());
        advance(LIMIT / 2).await;
        state.stalled(LIMIT);
        assert!(!state.is_dead(), "others have made progress");
        advance(LIMIT).await;
        state.stalled(LIMIT);
        assert!(state.is_dead());
    }

    #[test]
    fn seconds_are_short() {
        assert_eq!(seconds(LIMIT), "60 s");
        assert_eq!(seconds(Duration::from_millis(1540)), "1.5 s");
    }
}
