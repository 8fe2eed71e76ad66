//! `hydrant find`: the change that it names is compared with all states of the database.

use crate::common::binary::hydrant;
use hydrant::sim::generate::{GeneratedDatabase, sample_fleet};
use hydrant::sim::server::{SimOptions, SimServer};
use serde_json::Value;
use std::path::Path;

const SQL: &str = "SELECT count(*), max(rowid) FROM notes";

fn served(count: usize) -> (SimServer, Vec<GeneratedDatabase>) {
    let server = SimServer::start(SimOptions::default()).unwrap();
    server.objects().create_bucket("bucket");
    let databases = sample_fleet(count, 3).unwrap();
    databases.iter().for_each(|database| server.objects().put_database("bucket", database));
    (server, databases)
}

fn url(server: &SimServer, database: &GeneratedDatabase) -> String {
    format!("s3://bucket/{}?endpoint={}", database.root.trim_end_matches('/'), server.endpoint())
}

fn found(dir: &Path, args: &[&str]) -> Value {
    let ran = hydrant(dir, args).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The answer to the query in a database.
fn answer(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .query_row(SQL, [], |row| Ok((0..2).map(|i| row.get::<_, i64>(i).unwrap().to_string()).collect()))
        .unwrap()
}

fn row(state: &Value) -> Vec<String> {
    state["row"].as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_state_before_a_change_is_found_and_restored_by_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let (server, databases) = served(2);
    for database in &databases {
        let url = url(&server, database);
        let all = found(dir.path(), &["find", "-json", "-all", "-sql", SQL, &url]);
        let changes = all["changes"].as_array().unwrap();
        assert!(!changes.is_empty(), "{all}");
        assert_eq!(all["states"], all["restored"]);

        let one = found(dir.path(), &["find", "-json", "-sql", SQL, &url]);
        let change = &one["changes"][0];
        assert_eq!(one["changes"].as_array().unwrap().len(), 1);
        assert!(changes.contains(change), "{change} is none of {changes:?}");
        let states = one["states"].as_u64().unwrap();
        assert!(one["restored"].as_u64().unwrap() <= 3 + u64::from(states.ilog2()), "{one}");

        for change in changes {
            assert_ne!(row(&change["before"]), row(&change["after"]));
            let command = change["command"].as_str().unwrap().strip_prefix("hydrant ").unwrap().replace('\'', "");
            let ran = hydrant(dir.path(), &command.split(' ').collect::<Vec<_>>()).output().unwrap();
            assert_eq!(ran.status.code(), Some(0), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
            let restored = dir.path().join("app.db");
            assert_eq!(answer(&restored), row(&change["before"]), "{command}");
            std::fs::remove_file(&restored).unwrap();
            let _ = std::fs::remove_file(dir.path().join("app.db-shm"));
            let _ = std::fs::remove_file(dir.path().join("app.db-wal"));
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the scratch is removed");
}

#[test]
fn an_answer_that_never_changes_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (server, databases) = served(1);
    let url = url(&server, &databases[0]);
    let ran = hydrant(dir.path(), &["find", "-sql", "SELECT 1", &url]).output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!((ran.status.code(), ran.stdout.is_empty()), (Some(1), true), "{stderr}");
    assert!(stderr.contains("the answer is the same") && stderr.contains("-all"), "{stderr}");
    let ran = hydrant(dir.path(), &["find", &url]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
}
