//! What a fleet tells: its loop, and each follower through [`Teller`].

use super::standbys::Standbys;
use super::status::FleetStatus;
use crate::follow::error::FollowError;
use crate::follow::events::{FollowEvent, FollowSummary};
use crate::ltx::Txid;
use crate::store::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Something that an operator may want to know.
pub enum FleetEvent<'a> {
    /// What one database's follower tells. Holes and damage are told once, failing requests once for the fleet.
    Of(&'a str, &'a FollowEvent<'a>),
    /// A database cannot go on. The others do.
    Stopped(&'a str, &'a FollowError),
    /// A database is no standby any more. The others go on.
    NotOpened(&'a str, &'a str),
    /// A database cannot go on for a reason that may pass, the first time in a row. It is tried again.
    Paused(&'a str, &'a str),
    /// The replica of a database is gone.
    Vanished(&'a str),
    /// It is there again.
    Returned(&'a str),
    /// A scan has ended.
    Scanned {
        /// Whether all of its LISTs have succeeded.
        is_ok: bool,
    },
    /// A scan has failed, the first one since one succeeded.
    ScanFailed(&'a StoreError),
    /// A scan has succeeded again.
    ScanRecovered,
    /// The first scan has ended, of this many LISTs, and scans follow each other after this time.
    FirstScan {
        /// LISTs per scan.
        lists: u64,
        /// The time between the beginnings of two scans.
        every: Duration,
    },
    /// Every database has caught up, or cannot go on, or its store fails.
    Ready(&'a FleetStatus),
    /// Where the databases are, once a second.
    Status(&'a FleetStatus),
    /// The loop turns, whatever the store does.
    Alive,
    /// The databases are being closed.
    Ending,
}

/// Gets the events. It must not block. Those of one database come from other threads than the rest.
pub type FleetObserver = Arc<dyn Fn(&FleetEvent<'_>) + Send + Sync>;

/// What followers tell the loop.
pub(super) enum Message {
    CaughtUp(usize),
    Applied(usize, Txid),
    /// Nothing continues from where the database is.
    Stuck(usize),
    Ended(usize, FollowSummary, Result<(), FollowError>),
}

/// Passes on what one database's follower tells.
pub(super) struct Teller {
    pub id: usize,
    pub name: Arc<str>,
    pub warned_at: Arc<AtomicU64>,
    /// Whether this follower's requests fail.
    pub is_failing: AtomicBool,
    /// The number of followers whose requests fail.
    pub failing: Arc<AtomicUsize>,
    pub told: UnboundedSender<Message>,
    pub observer: FleetObserver,
}

impl Teller {
    pub(super) fn tell(&self, event: &FollowEvent<'_>) {
        let id = self.id;
        let is_told = match event {
            FollowEvent::Began { .. } | FollowEvent::Polled { .. } | FollowEvent::Alive => false,
            FollowEvent::CaughtUp { .. } => {
                self.send(Message::CaughtUp(id));
                false
            }
            FollowEvent::Applied { to, .. } => {
                self.send(Message::Applied(id, *to));
                true
            }
            FollowEvent::Hole { at, .. } | FollowEvent::Blocked { at, .. } => {
                self.send(Message::Stuck(id));
                Standbys::warns_anew(&self.warned_at, *at)
            }
            FollowEvent::Failing { .. } => {
                !self.is_failing.swap(true, SeqCst) && self.failing.fetch_add(1, SeqCst) == 0
            }
            FollowEvent::Recovered => self.is_failing.swap(false, SeqCst) && self.failing.fetch_sub(1, SeqCst) == 1,
            FollowEvent::Ending => {
                if self.is_failing.swap(false, SeqCst) {
                    self.failing.fetch_sub(1, SeqCst);
                }
                false
            }
            FollowEvent::Damaged { .. }
            | FollowEvent::DiskFull { .. }
            | FollowEvent::LongLog { .. }
            | FollowEvent::SidecarFailed { .. } => true,
        };
        if is_told {
            (self.observer)(&FleetEvent::Of(&self.name, event));
        }
    }

    fn send(&self, message: Message) {
        // Fails only if the loop has ended, which waits for all followers.
        let _ = self.told.send(message);
    }
}
