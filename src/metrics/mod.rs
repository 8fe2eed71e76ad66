//! The metrics of one run, for Prometheus (docs/CLI.md, "Metrics"). A run is over before anybody could ask it, so the
//! metrics go to a file that node_exporter's textfile collector reads. So do those of a standby, every 15 s.
//!
//! `run` has the figures of a run, `ages` the ages of its states, `standby` the figures of a standby. `exposition` writes them in Prometheus' text format.
//! `textfile` writes the file.

mod ages;
mod exposition;
mod followed_fleet;
mod run;
mod standby;
mod textfile;

pub use ages::{AGE_BOUNDS_SECONDS, AgeHistogram};
pub use followed_fleet::{FollowedFleetMetrics, LagHistogram};
pub use run::{RequestOutcomes, RunMetrics};
pub use standby::StandbyMetrics;
pub use textfile::MetricsTextfile;
