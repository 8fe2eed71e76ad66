pub(super) mod ages;
pub(super) mod error_log;
pub(super) mod past_fields;
pub(super) mod reasons;
pub(super) mod record;
pub(super) mod totals;
pub(super) mod v3_fields;
