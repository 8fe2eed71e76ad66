//! The metrics of a followed fleet, from what it tells.

use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::metrics::PeriodicMetrics;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::Log;
use crate::follow::FollowEvent;
use crate::follow::fleet::FleetEvent;
use crate::metrics::FollowedFleetMetrics;
use crate::process::locks::lock;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::sync::{Arc, Mutex};

/// The figures of a fleet.
#[derive(Debug, Default)]
pub(super) struct FleetFigures(Mutex<FollowedFleetMetrics>);

impl FleetFigures {
    /// Begins to write the metrics file, if there is to be one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(
        self: &Arc<Self>,
        args: &RestorePatternArgs,
        counters: &Arc<Counters>,
        log: &Log,
    ) -> Result<PeriodicMetrics, Failure> {
        {
            let mut metrics = lock(&self.0);
            (metrics.source, metrics.started) = (args.source_shown.clone(), Some(Timestamp::now()));
        }
        let (figures, counters) = (Arc::clone(self), Arc::clone(counters));
        let text = move |is_running| {
            let (received_bytes, requests) = (counters.bytes_in.get(), counters.sent());
            let metrics = lock(&figures.0).clone();
            FollowedFleetMetrics { is_running, received_bytes, requests, ..metrics }.to_text()
        };
        PeriodicMetrics::start(args.metrics_textfile.as_deref(), text, log)
    }

    /// Notes an event.
    pub(super) fn note(&self, event: &FleetEvent<'_>) {
        let mut metrics = lock(&self.0);
        match event {
            FleetEvent::Of(_, FollowEvent::Applied { from, to, files, pages, lag, .. }) => {
                metrics.lag.add(*lag);
                metrics.transactions += to.0.saturating_sub(from.0);
                metrics.files += *files as u64;
                metrics.pages += pages;
            }
            FleetEvent::Scanned { is_ok: true } => {
                metrics.scans.0 += 1;
                metrics.scanned = Some(Timestamp::now());
            }
            FleetEvent::Scanned { is_ok: false } => metrics.scans.1 += 1,
            FleetEvent::Status(status) => {
                metrics.databases = vec![
                    ("up_to_date", status.up_to_date as u64),
                    ("behind", status.behind() as u64),
                    ("stopped", status.stopped as u64),
                ];
                (metrics.open, metrics.vanished) = (status.open as u64, status.vanished as u64);
                let worst = status.worst_behind.as_ref().map_or(0, |(seconds, _)| *seconds);
                metrics.behind_seconds = (status.median_behind_seconds, worst);
            }
            _ => {}
        }
    }
}
