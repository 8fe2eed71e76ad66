//! The fields of JSON about a restore from the past of a versioned bucket.

use crate::report::DatabaseRow;
use crate::restore::PastState;
use serde::Serialize;

/// The fields, which appear only with `-as-of` (docs/CLI.md, "JSON").
#[derive(Debug, Clone, Serialize)]
pub struct PastFields {
    as_of: String,
    version_ids: Vec<String>,
    history_complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_time: Option<String>,
}

impl PastFields {
    /// The fields of a state.
    pub fn of(state: &PastState) -> Self {
        Self {
            as_of: state.as_of.to_string(),
            version_ids: state.version_ids.clone(),
            history_complete: state.history_complete,
            state_time: state.state_time.map(|time| time.to_string()),
        }
    }

    /// Sets these fields of a report's row.
    pub fn set(self, row: &mut DatabaseRow) {
        let Self { as_of, version_ids, history_complete, state_time } = self;
        (row.as_of, row.version_ids) = (Some(as_of), version_ids);
        (row.history_complete, row.state_time) = (Some(history_complete), state_time);
    }
}
