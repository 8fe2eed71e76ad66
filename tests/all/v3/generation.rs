//! Tests of `-generation`, which names the generation to restore.

use super::support::*;

fn served() -> (Served, Vec<(String, String)>) {
    let recorded = fixture("v3-s3");
    let generations = recorded.last_states();
    (serve(recorded), generations)
}

#[test]
fn each_generation_is_restored_to_its_last_state() {
    let (served, generations) = served();
    for (generation, hash) in &generations {
        let ran = restore_with(&["-json", "-generation", generation, &served.url()]).gives(hash);
        assert_eq!(ran.json()["generation"], *generation);
    }
    assert_eq!(generations.len(), 2);
}

#[test]
fn a_generation_of_a_copy() {
    let Some(original) = named("v3-gens") else { return };
    let Some(copied) = named("v3-copied") else { return };
    let served = serve(copied);
    for (generation, hash) in original.last_states() {
        restore_with(&["-generation", &generation, &served.url()]).gives(&hash);
    }
}

#[test]
fn with_a_timestamp_only_this_generation_counts() {
    let (served, generations) = served();
    let [(older, older_hash), (newer, _)] = &generations[..] else { panic!("{generations:?}") };
    let times = served.recorded.generations();
    // Long after the older generation ended: its last state.
    let after = times[1].2.to_string();
    restore_with(&["-generation", older, "-timestamp", &after, &served.url()]).gives(older_hash);
    // Before the newer generation began: it has no such state, whatever the other one has.
    let before = times[0].2.to_string();
    restore_with(&["-generation", newer, "-timestamp", &before, &served.url()]).fails("timestamp does not exist");
}

#[test]
fn an_unknown_generation_is_an_error_that_names_those_that_are_there() {
    let (served, generations) = served();
    for skip in ["-json", "-if-replica-exists"] {
        let ran = restore_with(&["-generation", "0123456789abcdef", skip, &served.url()]).fails("0123456789abcdef");
        for (generation, _) in &generations {
            assert!(ran.stderr.contains(generation), "{ran:?}");
        }
    }
}

#[test]
fn what_is_no_generation_is_a_usage_error() {
    let (served, _) = served();
    for text in ["5556c89dee79b0e", "5556C89DEE79B0E6", "5556c89dee79b0e67", "latest"] {
        let ran = restore_with(&["-generation", text, &served.url()]).fails_with(2, "-generation");
        assert!(ran.stderr.contains(text), "{ran:?}");
    }
    assert_eq!(served.server.stats().total(), 0);
}

#[test]
fn an_ltx_replica_has_no_generations() {
    let single = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/single");
    let url = format!("file://{}", single.join("one-page").display());
    restore_with(&["-generation", "0123456789abcdef", &url]).fails("0123456789abcdef");
}

/// A TXID belongs to LTX files, a generation to the files of 0.3.
#[test]
fn a_generation_and_a_txid_exclude_each_other() {
    let (served, generations) = served();
    let args = ["-generation", &generations[0].0, "-txid", "1", &served.url()];
    restore_with(&args).fails_with(2, "cannot specify -generation and -txid");
}
