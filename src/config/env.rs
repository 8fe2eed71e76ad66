//! The environment, and where it says that litestream.yml is.

use std::path::PathBuf;

/// The environment: the value of a variable, None where it is not set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The process's own environment, for the composition root. A value that is not UTF-8 counts
/// as not set.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where litestream.yml is when `-config` does not say: `$LITESTREAM_CONFIG`, else
/// `/etc/litestream.yml` (CONTRACT).
pub fn default_config_path(env: &Env<'_>) -> PathBuf {
    env("LITESTREAM_CONFIG")
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from("/etc/litestream.yml"), PathBuf::from)
}
