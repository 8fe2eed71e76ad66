//! The check for litestream.yml. Parsing must never panic. If a configuration is valid, every database that it
//! names can be looked up. No error text may show a secret of the file.

use hydrant::config::{Config, EntryKind};
use std::path::Path;

const SECRET: &str = "c2VjcmV0LWthbmFyeQ";

pub(super) fn check(text: &str) {
    let env = |name: &str| match name {
        "KEY" => Some("AKID".to_owned()),
        "SECRET" => Some(SECRET.to_owned()),
        "HOME" => Some("/home/user".to_owned()),
        _ => None,
    };
    for expand_env in [true, false] {
        let shown = match Config::parse(Path::new("litestream.yml"), text, expand_env, &env) {
            Err(error) => error.to_string(),
            Ok(config) => {
                for entry in &config.databases {
                    match &entry.kind {
                        EntryKind::Path(path) => {
                            let _ = config.find(path);
                        }
                        EntryKind::Dir { dir, .. } => {
                            let _ = config.find(&dir.join("a/b.db"));
                        }
                    }
                }
                String::new()
            }
        };
        // An error must never quote a value of the file, whatever its key.
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
