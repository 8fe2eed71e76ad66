//! Tests of configuration files that real fleets were written with.

use super::*;

#[test]
fn the_fleet_that_litestream_wrote() {
    let corpus = std::env::var("HYDRANT_CORPUS").unwrap_or_else(|_| "../shared/corpus".to_owned());
    let Ok(text) = std::fs::read_to_string(Path::new(&corpus).join("fleet/fleet.json")) else {
        println!("skipped: no corpus at {corpus}");
        return;
    };
    let fleet: serde_json::Value = serde_json::from_str(&text).unwrap();
    let config = yaml(&fleet["config"].as_str().unwrap().replace("ENDPOINT", "127.0.0.1:9000"));
    let mut found = 0;
    for database in fleet["databases"].as_array().unwrap() {
        let Some(path) = database["config_path"].as_str() else { continue };
        let location = config.find(Path::new(path)).unwrap();
        assert_eq!(location.path, database["key"].as_str().unwrap(), "{path}");
        assert_eq!(s3(&location).endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        found += 1;
    }
    assert!(found > 10, "{found}");
    for key in fleet["not_in_fleet"].as_array().unwrap() {
        let path = key.as_str().unwrap().replace("backups/", "/srv-host/srv/");
        let error = config.find(Path::new(&path)).unwrap_err();
        assert_eq!(error, ConfigError::DatabaseNotFound(PathBuf::from(path)));
    }
}
