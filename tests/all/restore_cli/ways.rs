//! Tests of outputs whose directory cannot exist. Every command and its dry run must fail at once, and the error
//! must name the part of the path that is in the way.

use super::support::*;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Runs all commands that restore to `output`, or below it with `--output-dir`. Each must report exactly one error,
/// which holds `texts`, before anything is fetched.
#[track_caller]
fn refused(place: &Place, output: &str, texts: &[&str]) {
    let (folder, _) = fixture("block-4096");
    let (source, pattern) = (format!("file://{}", folder.display()), format!("file://{}*", folder.display()));
    let database = format!("{output}/x.db");
    let before = place.contents();
    for flags in [&[][..], &["-dry-run"], &["-if-db-not-exists"], &["-force"]] {
        let args = [&["restore", "-o", &database], flags, &[&source]].concat();
        let ran = run(&mut hydrant(&args));
        for text in texts {
            assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{args:?} {ran:?}");
            assert!(ran.stderr.contains(text), "no {text:?} in {ran:?}");
        }
    }
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("errors.log");
    let log = log.to_str().unwrap();
    for flags in [&[][..], &["-dry-run"], &["--if-db-not-exists"], &["--force"]] {
        for dry in [false, true] {
            let flags = if dry { [flags, &["-dry-run"]].concat() } else { flags.to_vec() };
            let args = ["restore-pattern", "--error-log", log, "--output-dir", output];
            let args = [&args[..], &flags, &[&*pattern]].concat();
            let ran = run(&mut hydrant(&args));
            assert_eq!(ran.code, Some(1), "{args:?} {ran:?}");
            for text in texts {
                assert!(ran.stderr.contains(text), "no {text:?} in {ran:?}");
            }
        }
    }
    assert_eq!(place.contents(), before);
}

#[test]
fn a_link_to_nothing() {
    let place = Place::new();
    symlink("nowhere", place.path("d")).unwrap();
    symlink("d/sub", place.path("other")).unwrap();
    let text = format!("{} is a symbolic link to nowhere, which is not there: make that directory", place.path("d"));
    for output in ["d", "d/sub", "d/sub/deeper"] {
        refused(&place, &place.path(output), &[&text]);
    }
    let text = format!("{} is a symbolic link to d/sub, which is not there", place.path("other"));
    refused(&place, &place.path("other/x"), &[&text]);
    // The output is given by a relative path, as people type it.
    let (folder, _) = fixture("block-4096");
    let source = format!("file://{}", folder.display());
    let mut command = hydrant(&["restore", "-o", "d/sub/x.db", &source]);
    run(command.current_dir(place.dir())).failed("is a symbolic link to nowhere");
}

#[test]
fn links_that_lead_back_to_themselves() {
    let place = Place::new();
    symlink("loop", place.path("loop")).unwrap();
    let text = format!("the symbolic link {} leads back to itself: remove it", place.path("loop"));
    for output in ["loop", "loop/sub"] {
        refused(&place, &place.path(output), &[&text]);
    }
}

#[test]
fn a_file() {
    let place = Place::new();
    place.write("file", "x");
    symlink("file", place.path("link")).unwrap();
    for (output, name) in [("file", "file"), ("file/sub", "file"), ("link/sub", "link")] {
        let text = format!("a file stands where a directory must be: {}. Remove it", place.path(name));
        refused(&place, &place.path(output), &[&text]);
    }
}

#[test]
fn a_file_system_that_takes_nothing() {
    if !Path::new("/proc/self").exists() {
        println!("skipped: no /proc here");
        return;
    }
    for output in ["/proc/hydrant-none", "/proc/hydrant-none/sub", "/proc"] {
        refused(&Place::new(), output, &["nothing can be made in /proc: ", "Choose another output"]);
    }
}
