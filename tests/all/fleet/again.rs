//! Tests of what an operator has after a run: the log of failures, the command that does them again, the report, the
//! end at the first failure.

use super::*;

/// Runs the command line that `ran` suggests, with `more` flags.
fn suggested(host: &Host, ran: &Ran, more: &[&str]) -> Ran {
    let line = ran.stderr.lines().find_map(|line| line.strip_prefix("to do again what failed: hydrant "));
    let line = line.unwrap_or_else(|| panic!("{}", ran.stderr));
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec \"$0\" {line} \"$@\"")).arg(env!("CARGO_BIN_EXE_hydrant")).args(more);
    host.ran(host.in_its_own(command).output().unwrap())
}

/// Files at the outputs of these databases, which are in the way.
fn block(host: &Host, names: &[&str]) {
    std::fs::create_dir_all(host.path("out dir/fleet")).unwrap();
    names.iter().for_each(|name| std::fs::write(host.path("out dir").join(name), "mine").unwrap());
}

fn names(ran: &Ran) -> Vec<String> {
    json_lines(&ran.stdout).0.into_keys().collect()
}

#[test]
fn what_failed_is_done_again_and_nothing_else() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 6);
    let blocked = ["fleet/000001.db", "fleet/000004.db"];
    let pattern = url(&server, "bucket/**");
    for more in [&["--force"][..], &["--force", "-timestamp", "2100-01-01T00:00:00Z"]] {
        let host = Host::new();
        block(&host, &blocked);
        let ran = host.run(&["--output-dir", "out dir", "-json", &pattern]);
        assert_eq!((ran.code, ran.failures.len()), (3, 2), "{}", ran.stderr);
        let log = host.dir.path().canonicalize().unwrap().join("litestream-restore-errors.log");
        assert!(ran.stderr.contains(&format!("; see {}\n", log.display())), "{}", ran.stderr);
        let again = suggested(&host, &ran, more);
        assert_eq!((again.code, names(&again)), (0, blocked.map(str::to_owned).to_vec()), "{}", again.stderr);
        assert!(again.stderr.contains("\n2 databases of them named in "), "{}", again.stderr);
        assert_eq!(whole_ones(&host, "out dir", &fleet), 6);
        assert!(!log.exists());
    }
}

#[test]
fn a_report_and_a_list_name_databases_too() {
    let server = simulator(SimOptions::default());
    tiny(&server, 4);
    let (host, pattern) = (Host::new(), url(&server, "bucket/**"));
    block(&host, &["fleet/000002.db"]);
    // Without an error log the report is what names the failed ones.
    let files = ["--report", "report.json", "--error-log", "/dev/null"];
    let ran = host.run(&[&files[..], &["--output-dir", "out dir", "-json", &pattern]].concat());
    assert!(ran.stderr.contains("/report.json\n"), "{}", ran.stderr);
    assert_eq!(names(&suggested(&host, &ran, &["--force"])), ["fleet/000002.db"]);
    std::fs::write(host.path("list"), "bucket/fleet/000003.db\nfleet/000009.db\n").unwrap();
    let ran = host.run(&["--only", "list", "--output-dir", "out dir", "--force", "-json", &pattern]);
    assert_eq!((ran.code, names(&ran)), (0, vec!["fleet/000003.db".to_owned()]), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("1 name in list that no database of the pattern has: fleet/000009.db"),
        "{}",
        ran.stderr
    );
    std::fs::write(host.path("list"), "fleet/000009.db\n").unwrap();
    for (file, text) in
        [("list", "no database that list names matches s3://"), ("absent", "--only: cannot read absent: ")]
    {
        let ran = host.run(&["--only", file, "--output-dir", "out dir", &pattern]);
        assert!(ran.code == 1 && ran.stderr.contains(text), "{}", ran.stderr);
    }
}

#[test]
fn a_listing_that_fails_leaves_the_old_error_log() {
    let server = simulator(SimOptions::default());
    tiny(&server, 2);
    let host = Host::new();
    std::fs::write(host.path("litestream-restore-errors.log"), "Failed to restore: a - hole: x\n").unwrap();
    server.set_faults(Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() });
    let ran = host.run(&["--output-dir", "out", &url(&server, "bucket/**")]);
    assert_eq!((ran.code, ran.failures.len()), (1, 1), "{}", ran.stderr);
    server.set_faults(Faults::default());
    let ran = host.run(&["--output-dir", "out", &url(&server, "bucket/**")]);
    assert_eq!((ran.code, ran.failures.len()), (0, 0), "{}", ran.stderr);
}

#[test]
fn without_an_error_log_all_failures_are_on_stderr() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 25);
    let (host, pattern) = (Host::new(), url(&server, "bucket/**"));
    block(&host, &fleet.iter().map(|database| database.root.trim_end_matches('/')).collect::<Vec<_>>());
    let ran = host.run(&["--error-log", "/proc/self/none/log", "--output-dir", "out dir", &pattern]);
    let count = |text: &str| ran.stderr.lines().filter(|line| line.contains(text)).count();
    assert_eq!((ran.code, count("cannot write the error log /proc/self/none/log: ")), (1, 1), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("Warning: fleet/")).count(), 25, "{}", ran.stderr);
    assert!(count("; see ") + count("do again what failed") == 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("the most frequent reasons: 25 times: fleet/0000"), "{}", ran.stderr);
}

#[test]
fn fail_fast_begins_no_further_database() {
    let server = simulator(SimOptions::default());
    tiny(&server, 8);
    let (host, pattern) = (Host::new(), url(&server, "bucket/**"));
    block(&host, &["fleet/000005.db"]);
    let args = ["--output-dir", "out dir", "--parallel", "1", "-json", "--first", "**/000005.db", &pattern];
    let ran = host.run(&[&["--fail-fast"], &args[..]].concat());
    let (records, summary) = json_lines(&ran.stdout);
    assert_eq!((ran.code, records.len(), &summary["not_started"]), (1, 1, &7.into()), "{}", ran.stderr);
    assert!(ran.stderr.contains("failed 1, not started 7"), "{}", ran.stderr);
    assert_eq!(host.run(&args).code, 3);
}

#[test]
fn report_and_error_log_are_two_files() {
    let host = Host::new();
    std::fs::write(host.path("a"), "").unwrap();
    std::fs::hard_link(host.path("a"), host.path("b")).unwrap();
    for report in ["./a", "b"] {
        let ran = host.run(&["--error-log", "a", "--report", report, "file:///nowhere/**"]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("the report and the error log cannot be one file"), "{}", ran.stderr);
    }
}

#[test]
fn what_a_killed_run_left_beside_its_report_is_removed() {
    let server = simulator(SimOptions::default());
    tiny(&server, 1);
    let host = Host::new();
    std::fs::create_dir(host.path("reports")).unwrap();
    for left in ["reports/.rep.json.hydrant-abcdefgh", ".litestream-restore-errors.log.hydrant-abcdefgh"] {
        std::fs::write(host.path(left), "{").unwrap();
    }
    let ran = host.run(&["--report", "reports/rep.json", "--output-dir", "out", &url(&server, "bucket/**")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(host.files("").into_iter().collect::<Vec<_>>(), ["out/fleet/000000.db", "reports/rep.json"]);
}

#[test]
fn retries_are_no_databases_and_skips_have_kinds() {
    let server = simulator(SimOptions::default());
    tiny(&server, 3);
    let (host, pattern) = (Host::new(), url(&server, "bucket/**"));
    block(&host, &["fleet/000000.db"]);
    let ran = host.run(&["--if-db-not-exists", "--output-dir", "out dir", "-json", &pattern]);
    let (_, summary) = json_lines(&ran.stdout);
    assert_eq!(summary["skips"], serde_json::json!({"database already exists": 1}));
    assert_eq!((&summary["databases_tried_again"], &summary["restored_around_damage"]), (&0.into(), &0.into()));
    assert!(ran.stderr.contains("skipped 1 (1 database already exists), failed 0"), "{}", ran.stderr);
    assert_eq!(summary["oldest_state"]["time_source"], "header", "{summary}");
    assert!(
        summary["oldest_state"]["age_s"].as_u64().is_some() && ran.stderr.contains("\noldest state: "),
        "{summary}"
    );
}

#[test]
fn each_first_that_matches_nothing_is_named() {
    let server = simulator(SimOptions::default());
    tiny(&server, 2);
    let host = Host::new();
    // The second one matches what the first one has taken already.
    let firsts = ["--first", "fleet/**", "--first", "**/000001.db", "--first", "nothing/*"];
    let ran = host.run(&[&firsts[..], &["--output-dir", "out", &url(&server, "bucket/**")]].concat());
    let warnings: Vec<_> = ran.stderr.lines().filter(|line| line.contains("--first")).collect();
    assert_eq!(warnings, ["Warning: no database matches --first nothing/*"]);
}

#[test]
fn json_is_json_to_the_last_line() {
    let server = simulator(SimOptions::default());
    tiny(&server, 2);
    let (host, pattern) = (Host::new(), url(&server, "bucket/**"));
    block(&host, &["fleet/000001.db"]);
    let json = ["--log-format", "json", "--no-progress"];
    for (args, code) in [
        (&["--output-dir", "out dir", &pattern][..], 3),
        (&["--output-dir", "out dir", &pattern.replace("/**", "/none/**")], 1),
        (&["--parallel", "0", &pattern], 2),
    ] {
        let ran = host.run(&[&json[..], args].concat());
        let lines: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((ran.code, &lines.last().unwrap()["level"]), (code, &"ERROR".into()), "{}", ran.stderr);
        if code == 3 {
            let failed = lines.iter().find(|line| line["database"] == "fleet/000001.db").unwrap();
            assert_eq!(failed["class"], "output exists");
            assert!(failed["path"].as_str().unwrap().ends_with("/out dir/fleet/000001.db"), "{failed}");
        }
    }
    let ran = host.run(&["-json", &pattern.replace("/**", "/none/**")]);
    let (records, summary) = json_lines(&ran.stdout);
    assert_eq!((ran.code, records.len(), &summary["matched"]), (1, 0, &0.into()), "{}", ran.stderr);
}

#[test]
fn quiet_shows_failures_and_the_result() {
    let server = simulator(SimOptions::default());
    tiny(&server, 2);
    let (host, pattern) = (Host::new(), url(&server, "bucket/**"));
    block(&host, &["fleet/000001.db"]);
    let ran = host.run(&["-quiet", "-progress", "--output-dir", "out dir", &pattern]);
    let begins: Vec<_> = ran.stderr.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = ["Warning: fleet/000001.db:", "restored 1,", "to do", "Error: 1", "Try: hydrant"];
    assert_eq!(begins, expected, "{}", ran.stderr);
    assert_eq!(host.run(&["-quiet", "-v", &pattern]).code, 2);
}

#[test]
fn verbose_says_where_requests_go() {
    let server = simulator(SimOptions::default());
    tiny(&server, 1);
    let host = Host::new();
    let ran = host.run(&["-v", "--output-dir", "out", &url(&server, "bucket/**")]);
    let opened = format!(
        "hydrant::s3: bucket opened bucket=bucket endpoint={}/bucket region=us-east-1 style=path credentials=\"keys of \
         the environment\"\n",
        server.endpoint()
    );
    assert!(ran.stderr.contains(&opened), "{opened}{}", ran.stderr);
}

#[test]
fn a_limited_rate_holds() {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, 30);
    let host = Host::new();
    let bytes: usize = fleet.iter().flat_map(|database| &database.objects).map(|object| object.bytes.len()).sum();
    let begun = std::time::Instant::now();
    let ran = host.run(&["--limit-rate", "64KiB", "--output-dir", "out", "-json", &url(&server, "bucket/**")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let fetched = json_lines(&ran.stdout).1["bytes_fetched"].as_u64().unwrap();
    assert!(fetched > 64 << 10 && fetched <= bytes as u64, "{fetched}");
    // Less would be faster than allowed. What is slower may be the machine's fault.
    let least = fetched as f64 / 65_536.0 - 0.2;
    assert!(begun.elapsed().as_secs_f64() > least, "{fetched} bytes in {:?}", begun.elapsed());
    assert_eq!(whole_ones(&host, "out", &fleet), 30);
    assert_eq!(host.run(&["--limit-rate", "1KiB", "s3://b/**"]).code, 2);
}

#[test]
fn owner_and_modes_by_flag_and_by_configuration() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let server = simulator(SimOptions::default());
    tiny(&server, 2);
    let host = Host::new();
    let pattern = url(&server, "bucket/**");
    let seen = |path: &str| {
        let stat = std::fs::metadata(host.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        (stat.uid(), stat.gid(), stat.permissions().mode() & 0o7777)
    };
    let (user, group) = (seen("").0, seen("").1);
    let ran = host.run(&["--mode", "0640", "--dir-mode", "0751", "--output-dir", "by/flag", &pattern]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(seen("by/flag/fleet/000001.db"), (user, group, 0o640));
    for made in ["by", "by/flag", "by/flag/fleet"] {
        assert_eq!(seen(made), (user, group, 0o751), "{made}");
    }
    for (flags, text) in [
        (["--owner", "no-such-user-here"], "-owner: /etc/passwd has no user 'no-such-user-here'"),
        (["--mode", "9999"], "must be octal permissions"),
    ] {
        let ran = host.run(&[&flags[..], &["--output-dir", "none", &pattern]].concat());
        assert!(ran.code == 2 && ran.stderr.contains(text) && !host.path("none").exists(), "{}", ran.stderr);
    }
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root may give files away");
    }
    let source = url(&server, "bucket/fleet/000000.db");
    let text = format!(
        "restore-pattern: {{owner: 54321:54322, mode: 0600, dir-mode: 0700}}\ndbs:\n  - path: {0}/srv/000000.db\n    \
         replica:\n      url: {source}\n",
        host.dir.path().display()
    );
    std::fs::write(host.path("litestream.yml"), text).unwrap();
    let all = host.path("srv/*").to_str().unwrap().to_owned();
    let ran = host.run(&["-config", "litestream.yml", &all]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!((seen("srv/000000.db"), seen("srv")), ((54_321, 54_322, 0o600), (54_321, 54_322, 0o700)));
    // -force keeps owner and mode of the old file, and the flag is stronger than the file and the configuration.
    let ran = host.run(&["-force", "--output-dir", "srv", &url(&server, "bucket/fleet/000000.db")]);
    assert_eq!((ran.code, seen("srv/000000.db")), (0, (54_321, 54_322, 0o600)), "{}", ran.stderr);
    let ran = host.run(&["-config", "litestream.yml", "-force", "--owner", "0:0", "--mode", "640", &all]);
    assert_eq!((ran.code, seen("srv/000000.db")), (0, (0, 0, 0o640)), "{}", ran.stderr);
}
