//! The output of `bench` as JSON, as a table and as a histogram log.

use super::replicas::{put, put_sound, simulator};
use super::support::*;

#[test]
fn bench() {
    let server = simulator(1000);
    put_sound(&server, "fleet/a.db");
    put_sound(&server, "fleet/b.db");
    put(&server, "fleet/damaged.db", |files| files.file(super::replicas::SNAPSHOT).bytes[0] = b'X');
    let host = Host::new();
    std::fs::create_dir(host.path("scratch")).unwrap();
    let mut seen = Transcript::new("bench", host.normal(&server));
    let all = url(&server, "fleet/**");
    let common = [&["bench"], &STEADY[..4], &["--parallel", "1", "--output-dir", "scratch"]].concat();
    let run = |more: &[&str]| host.run(&[&common[..], more, &[&all]].concat());
    seen.ran(&run(&["--json", "--hlog", "bench.hlog"]), Shape::Json, Shape::Text);
    seen.file("hlog, sorted and without its numbers", &without_numbers(&host.read("bench.hlog")));
    seen.ran(&run(&[]), Shape::Measurements, Shape::Text);
    let nothing = url(&server, "nothing/**");
    seen.ran(&host.run(&["bench", "--json", &nothing]), Shape::Json, Shape::Text);
    seen.matches();
}

/// The lines of the histogram log without repetitions, because a slow run has several lines with one tag.
/// Histograms are replaced by a fixed text.
fn without_numbers(log: &str) -> String {
    let line = |line: &str| {
        let fields: Vec<String> = line.split(',').map(shown).collect();
        fields.join(",") + "\n"
    };
    log.lines().map(line).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn shown(field: &str) -> String {
    if field.starts_with("HISTFAAA") {
        return "HISTFAAA<histogram>".to_owned();
    }
    // The fields are the line `#[StartTime: 1790000000.123 …]` and the numbers of an interval.
    let words = field.split(' ').map(|word| match word.parse::<f64>() {
        Ok(_) if word.contains('.') => "<n>",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
