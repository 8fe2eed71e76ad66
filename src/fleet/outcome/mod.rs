pub(super) mod error_log;
pub(super) mod record;
pub(super) mod report;
