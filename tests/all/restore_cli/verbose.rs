//! What `-v` and `-vv` show of requests and plans (docs/LOGGING.md).

use super::support::*;
use hydrant::sim::server::{Failure, Faults, RequestKind};
use serde_json::Value;
use std::collections::BTreeMap;

/// One request at a time: nothing is hedged, and the number of requests does not depend on timing.
const STEADY: [&str; 2] = ["--max-requests", "1"];

fn restore(served: &Served, more: &[&str]) -> Ran {
    let place = Place::new();
    let out = place.out();
    let args = [&["restore"], more, &STEADY[..], &["-o", &out, &served.url]].concat();
    run(&mut hydrant_s3(&args))
}

/// The events with this target and message, in order.
fn events(ran: &Ran, target: &str, message: &str) -> Vec<BTreeMap<String, Value>> {
    let lines = ran.stderr.lines().filter(|line| line.starts_with('{'));
    let all = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    all.filter(|event: &BTreeMap<_, _>| event.get("target") == Some(&target.into()) && event["msg"] == message)
        .collect()
}

#[test]
fn a_request_that_is_sent_again_is_shown_with_what_is_done() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let key = served.database.objects[0].key.clone();
    let failures = [Failure::InternalError, Failure::SlowDown, Failure::ResetBeforeHeaders, Failure::HalfBody];
    served.server.script(RequestKind::Get, &key, failures.map(Some));
    let ran = restore(&served, &["-v", "--log-format", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let failed = events(&ran, "hydrant::s3", "request failed");
    assert_eq!(failed.len(), 4, "{ran:?}");
    for (i, event) in failed.iter().enumerate() {
        assert_eq!((&event["level"], &event["op"], &event["key"]), (&"DEBUG".into(), &"GET".into(), &(*key).into()));
        assert_eq!((&event["bucket"], &event["attempt"]), (&"bucket".into(), &(i + 1).into()), "{event:?}");
        assert!(event["request"].as_u64() > Some(0) && event["latency_ms"].as_f64() > Some(0.0), "{event:?}");
        assert!(event["range"].as_str().unwrap().contains('-') && event.contains_key("host"), "{event:?}");
        assert!(event["cure"].as_str().unwrap().contains(" in "), "{event:?}");
    }
    assert_eq!((&failed[0]["status"], &failed[1]["status"]), (&500.into(), &503.into()));
    assert!(failed[0]["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{failed:?}");
    assert!(failed[1]["cure"].as_str().unwrap().starts_with("limiter told"), "{failed:?}");
    assert!(!failed[2].contains_key("status") && failed[2].contains_key("error"), "{failed:?}");
    // The rest of a body that broke off is asked for.
    assert_eq!(failed[3]["status"], 206);
    assert!(!failed[3]["range"].as_str().unwrap().starts_with("0-"), "{failed:?}");
    assert!(!events(&ran, "hydrant::s3", "requests per second: the limit changed").is_empty(), "{ran:?}");

    served.server.script(RequestKind::Get, &key, [Some(Failure::InternalError)]);
    let text = restore(&served, &["-v"]);
    assert_eq!(text.code, Some(0), "{text:?}");
    let line = text.stderr.lines().find(|line| line.starts_with("hydrant::s3: request failed")).unwrap();
    assert!(line.contains(" op=GET ") && line.contains(" attempt=1 status=500 ") && line.contains(&key), "{line}");
    assert!(line.contains(" cure=\"sent again in "), "{line}");
}

#[test]
fn connections_that_fail_are_shown() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let no_tls = served.server.endpoint().replace("http://", "https://");
    for (endpoint, reason) in [("http://127.0.0.1:1".to_owned(), "refused"), (no_tls, "InvalidContentType")] {
        let host = endpoint.split_once("://").unwrap().1.to_owned();
        let url = url(&endpoint, "large.db");
        let ran = run(&mut hydrant_s3(&["ltx", "-v", "--log-format", "json", "--connect-timeout", "0s", &url]));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let failed = events(&ran, "hydrant::s3", "request failed");
        let attempts: Vec<_> = failed.iter().map(|event| event["attempt"].as_u64().unwrap()).collect();
        assert_eq!(attempts, [1, 2, 3, 4], "{ran:?}");
        for event in &failed {
            assert_eq!((&event["op"], &event["host"]), (&"LIST".into(), &(*host).into()), "{event:?}");
            assert!(event["error"].as_str().unwrap().contains(reason) && !event.contains_key("status"), "{event:?}");
        }
        assert!(failed[0]["cure"].as_str().unwrap().starts_with("another connection in "), "{failed:?}");
        assert_eq!(failed[3]["cure"], "none, the operation fails");
    }
}

#[test]
fn every_request_and_answer_is_shown_with_vv() {
    let served = serve(large(1 << 20, 3), Faults::default());
    let before = served.server.stats();
    let ran = restore(&served, &["-vv", "--log-format", "json"]).succeeded();
    let sent = events(&ran, "hydrant::s3", "request");
    let answers = events(&ran, "hydrant::s3", "answer");
    assert_eq!(sent.len() as u64, served.server.stats().since(&before).total(), "{ran:?}");
    let numbers = |events: &[BTreeMap<String, Value>]| {
        let mut numbers: Vec<_> = events.iter().map(|event| event["request"].as_u64().unwrap()).collect();
        numbers.sort();
        numbers
    };
    assert_eq!(numbers(&sent), (1..=sent.len() as u64).collect::<Vec<_>>());
    assert_eq!(numbers(&sent), numbers(&answers));
    for answer in &answers {
        assert_eq!(answer["level"], "TRACE");
        assert!(matches!(answer["status"].as_u64(), Some(200 | 206)), "{answer:?}");
        assert!(answer["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{answer:?}");
        assert!(answer["latency_ms"].as_f64() > Some(0.0), "{answer:?}");
        let of_what = if answer["op"] == "LIST" { "prefix" } else { "range" };
        assert!(answer.contains_key(of_what), "{answer:?}");
    }
    let bodies = events(&ran, "hydrant::s3", "body");
    let gets = answers.iter().filter(|answer| answer["op"] == "GET");
    let numbers_of_gets: Vec<_> = gets.map(|answer| answer["request"].as_u64().unwrap()).collect();
    assert_eq!(numbers(&bodies).len(), numbers_of_gets.len());
    assert!(bodies.iter().all(|body| body["bytes"].as_u64() > Some(0)), "{bodies:?}");
    assert_eq!(events(&ran, "hydrant::commit", "synced and published").len(), 1);
}

#[test]
fn a_plan_is_shown_with_v() {
    let served = serve(large(64 << 10, 2), Faults::default());
    let ran = restore(&served, &["-v", "--log-format", "json"]).succeeded();
    let plans = events(&ran, "hydrant::plan", "plan");
    assert_eq!(plans.len(), 1, "{ran:?}");
    let plan = &plans[0];
    assert_eq!((&plan["database"], &plan["files"]), (&"large.db".into(), &3.into()), "{plan:?}");
    assert!(plan["levels"].as_str().unwrap().starts_with("9×1"), "{plan:?}");
    assert_eq!(events(&ran, "hydrant::io", "workers started").len(), 1);
    // Single requests are shown with -vv only.
    assert!(events(&ran, "hydrant::s3", "request").is_empty(), "{ran:?}");
}

#[test]
fn nothing_is_shown_without_v() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let key = served.database.objects[0].key.clone();
    served.server.script(RequestKind::Get, &key, [Some(Failure::InternalError), Some(Failure::SlowDown)]);
    let ran = restore(&served, &[]).succeeded();
    assert!(ran.stderr.contains("restored ") && !ran.stderr.contains("hydrant::"), "{ran:?}");
    assert!(!ran.stderr.contains("request"), "{ran:?}");
}
