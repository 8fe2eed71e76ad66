//! The fields of JSON that name a state from files of Litestream 0.3, which has no TXID (docs/CLI.md, "JSON").

use crate::plan::V3State;
use crate::report::DatabaseRow;
use serde::Serialize;

/// The format that these fields name.
const FORMAT: &str = "v0.3";

/// The state of a database that was restored from files of Litestream 0.3, or would be, as texts for JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct V3Fields {
    format: &'static str,
    /// The name of the generation: 16 hexadecimal digits.
    pub generation: String,
    /// The index of the newest segment of WAL, or of the snapshot: 8 hexadecimal digits.
    pub index: String,
    /// The offset of that segment in its WAL: at least 8 hexadecimal digits.
    pub offset: String,
    /// When the newest file was uploaded: RFC 3339, with the fraction of a second that the store keeps.
    time: String,
}

impl V3Fields {
    /// The fields of `state`.
    pub fn of(state: &V3State) -> Self {
        Self {
            format: FORMAT,
            generation: state.generation.to_string(),
            index: format!("{:08x}", state.index),
            offset: format!("{:08x}", state.offset),
            time: state.time.to_string(),
        }
    }

    /// Sets these fields of a report's row.
    pub fn set(self, row: &mut DatabaseRow) {
        let Self { format, generation, index, offset, time } = self;
        (row.format, row.generation) = (Some(format), Some(generation));
        (row.index, row.offset, row.time) = (Some(index), Some(offset), Some(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Generation;
    use crate::timestamp::Timestamp;

    #[test]
    fn names_are_those_of_files_and_the_time_is_exact() {
        let time = Timestamp::from_nanos(1_795_821_463_552_896_339);
        let state = V3State { generation: Generation(0x1724_97b1), index: 0x1f, offset: 0x1_0200_0020, time };
        assert_eq!(
            serde_json::to_string(&V3Fields::of(&state)).unwrap(),
            r#"{"format":"v0.3","generation":"00000000172497b1","index":"0000001f","offset":"102000020","time":"2026-11-27T23:17:43.552896339Z"}"#
        );
        assert_eq!(Timestamp::parse_rfc3339(&V3Fields::of(&state).time), Some(time));
    }
}
