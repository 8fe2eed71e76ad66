pub mod error_log;
pub mod record;
pub mod report;
