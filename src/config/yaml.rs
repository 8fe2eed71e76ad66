//! litestream.yml as text to entries.

use super::{Config, ConfigError, Env};
use std::path::Path;

pub(super) fn read(_path: &Path) -> Result<String, ConfigError> {
    todo!()
}

pub(super) fn from_text(_path: &Path, _text: &str, _expand_env: bool, _env: &Env<'_>) -> Result<Config, ConfigError> {
    todo!()
}
