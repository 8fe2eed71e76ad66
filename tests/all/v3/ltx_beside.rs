//! Tests of LTX files and files of Litestream 0.3 under one path: which of the two formats each target is restored
//! from.

use super::support::*;
use hydrant::timestamp::Timestamp;

/// Every target of the corpus' replicas of both formats, through the program: the state, the format, and a warning
/// that names the other one.
#[test]
fn the_format_of_every_target() {
    let (mut of_v3, mut of_ltx) = (0, 0);
    for name in ["v3-then-ltx", "v3-then-ltx-file", "v3-then-ltx-copied"] {
        let Some(recorded) = named(name) else { continue };
        let (dir, served) = (tempfile::tempdir().unwrap(), serve(recorded));
        served.recorded.write(&dir.path().join("db"));
        let sources = [served.url(), format!("file://{}", dir.path().join("db").display())];
        for t in served.recorded.targets() {
            for source in &sources {
                let mut args = vec!["-json", source.as_str()];
                if let Some(at) = t["timestamp"].as_str() {
                    args.extend(["-timestamp", at]);
                }
                let ran = restore_with(&args).gives(t["sha256"].as_str().unwrap());
                let result = ran.json();
                let is_v3 = t["note"] == "v0.3";
                if is_v3 {
                    assert_eq!((&result["format"], &result["txid"]), (&"v0.3".into(), &"".into()), "{t} {result}");
                    of_v3 += 1;
                } else {
                    assert_ne!(result["format"], "v0.3", "{t} {result}");
                    assert_eq!(result["txid"].as_str().unwrap().len(), 16, "{t} {result}");
                    assert!(result["generation"].is_null(), "{t} {result}");
                    of_ltx += 1;
                }
                let warnings = result["warnings"].to_string();
                let aside = if is_v3 { "LTX file" } else { "of Litestream 0.3" };
                assert!(warnings.contains("left aside") && warnings.contains(aside), "{t} {result}");
            }
        }
    }
    println!("{of_v3} from v0.3, {of_ltx} from LTX");
}

/// A recorded replica of both formats, with the times of all its files of one format moved.
fn moved(is_ltx: bool, nanos: i64) -> Option<Recorded> {
    let mut recorded = named("v3-then-ltx")?;
    for file in recorded.files.iter_mut().filter(|file| file.key.ends_with(".ltx") == is_ltx) {
        file.time = file.time.saturating_add_nanos(nanos);
        file.metadata = file.metadata.map(|time| time.saturating_add_nanos(nanos));
    }
    Some(recorded)
}

/// The last state of the 0.3 files: what T directly before the first LTX file gives.
fn last_of_v3(recorded: &Recorded) -> String {
    let t = recorded.targets().iter().rfind(|t| t["note"] == "v0.3").unwrap();
    t["sha256"].as_str().unwrap().to_owned()
}

const MINUTE: i64 = 60_000_000_000;

/// Litestream was set back to 0.3, and wrote after the LTX files.
#[test]
fn the_format_whose_newest_file_is_later_is_restored() {
    let Some(recorded) = moved(false, 10 * MINUTE) else { return };
    let hash = last_of_v3(&recorded);
    let ran = restore_with(&["-json", &serve(recorded).url()]).gives(&hash);
    assert_eq!(ran.json()["format"], "v0.3");
}

/// Equal times: LTX.
#[test]
fn at_equal_times_ltx_is_restored() {
    let Some(mut recorded) = named("v3-then-ltx") else { return };
    let newest = |recorded: &Recorded, is_ltx: bool| {
        recorded.files.iter().filter(|file| file.key.ends_with(".ltx") == is_ltx).map(|file| file.time).max().unwrap()
    };
    let (of_ltx, of_v3) = (newest(&recorded, true), newest(&recorded, false));
    assert!(of_ltx > of_v3);
    for file in recorded.files.iter_mut().filter(|file| file.time == of_v3) {
        file.time = of_ltx;
    }
    let hash = recorded.latest().to_owned();
    restore_with(&["-json", &serve(recorded).url()]).gives(&hash);
    // A millisecond later, it is the other one.
    let Some(mut recorded) = named("v3-then-ltx") else { return };
    for file in recorded.files.iter_mut().filter(|file| file.time == of_v3) {
        file.time = of_ltx.saturating_add_nanos(1_000_000);
    }
    let hash = last_of_v3(&recorded);
    restore_with(&["-json", &serve(recorded).url()]).gives(&hash);
}

/// In a copied bucket the times of the objects are the copy's, in order of keys. The times in the LTX files tell.
#[test]
fn a_copy_is_seen_by_the_times_in_the_ltx_files() {
    let Some(mut recorded) = named("v3-then-ltx") else { return };
    let begun = Timestamp::from_millis(1_800_000_000_000);
    for (at, file) in recorded.files.iter_mut().enumerate() {
        file.time = begun.saturating_add_nanos(at as i64 * 1_000_000);
    }
    let hash = recorded.latest().to_owned();
    let served = serve(recorded);
    restore_with(&["-json", &served.url()]).gives(&hash);
}

/// `-generation` names files of 0.3, `-txid` LTX files, whichever is newer.
#[test]
fn flags_that_name_a_format() {
    let Some(recorded) = named("v3-then-ltx") else { return };
    let (generation, hash) = (recorded.generations()[0].0.clone(), last_of_v3(&recorded));
    let served = serve(recorded);
    restore_with(&["-generation", &generation, &served.url()]).gives(&hash);
    let ran = restore_with(&["-json", "-txid", "4", &served.url()]);
    assert_eq!((ran.code, &ran.json()["txid"]), (0, &"0000000000000004".into()), "{ran:?}");
    restore_with(&["-txid", "5000", &served.url()]).fails("no matching backup files available");
}
