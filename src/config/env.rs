//! The environment, and the default path of litestream.yml.

use std::path::PathBuf;

/// The environment: returns the value of a variable, or None if it is not set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The process's environment, for the composition root. A value that is not UTF-8 counts as not
/// set.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The path of litestream.yml without `-config`: `$LITESTREAM_CONFIG`, else `/etc/litestream.yml`
/// (docs/CLI.md, "hydrant restore").
pub fn default_config_path(env: &Env<'_>) -> PathBuf {
    env("LITESTREAM_CONFIG")
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from("/etc/litestream.yml"), PathBuf::from)
}
