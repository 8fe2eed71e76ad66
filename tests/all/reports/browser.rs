//! Pages in a real browser: Debian's chromium, which HYDRANT_CHROMIUM names. Without it these tests are skipped.

use super::chromium::Chromium;
use super::{HOSTILE, fleet, json, reported, url};
use hydrant::report::{DatabaseRow, ReportBook, RowStanding, RunEnd, RunInfo};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The reports of a run over the fleet.
fn run() -> (tempfile::TempDir, Value, PathBuf) {
    let (server, dir) = (fleet(), tempfile::tempdir().unwrap());
    let args = ["restore-pattern", "--max-retries", "0", "--output-dir", "out", &url(&server, "fleet/**")];
    let (_, [report, page, _]) = reported(dir.path(), &args);
    let report = json(&report);
    (dir, report, page)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_str().unwrap().split([' ', ',']).map(|n| n.parse().unwrap()).collect()
}

/// The points of the curve, computed back from its coordinates: seconds and databases.
fn curve(browser: &mut Chromium, series: &str) -> Vec<(f64, f64)> {
    let plot = numbers(&browser.value("document.querySelector('#recovery svg').dataset.plot"));
    let [left, top, width, height, x_max, y_max] = plot[..] else { panic!("{plot:?}") };
    let points =
        browser.value(&format!("document.querySelector('#recovery [data-series={series}]').getAttribute('points')"));
    let back = |xy: &[f64]| ((xy[0] - left) / width * x_max, (top + height - xy[1]) / height * y_max);
    numbers(&points).chunks(2).map(back).collect()
}

#[test]
fn a_page_shows_what_json_holds() {
    let Some(mut browser) = Chromium::start() else { return };
    let (_dir, report, page) = run();
    browser.open(&page);
    assert_eq!(browser.requests(), [format!("file://{}", page.display())]);
    assert_eq!(browser.console(), Vec::<&Value>::new());

    // Rows and totals.
    let rows = report["databases"].as_array().unwrap();
    let names = |of: &str| {
        let mut names: Vec<&str> = rows
            .iter()
            .filter(|row| (row["outcome"] == "failed") == (of == "failures"))
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        names
    };
    for table in ["failures", "others"] {
        let shown = browser.value(&format!(
            "[...document.querySelectorAll('#{table} tbody tr')].map(row => row.cells[0].firstChild.textContent).sort()"
        ));
        assert_eq!(shown, json!(names(table)), "{table}");
    }
    let mut total = |name: &str| {
        let expression = format!("document.querySelector('[data-total={name}]').dataset.value");
        browser.value(&expression).as_str().unwrap().parse::<f64>().unwrap()
    };
    let summary = |name: &str| report["summary"][name].as_f64().unwrap();
    assert_eq!(total("databases"), rows.len() as f64);
    for name in ["restored", "failed", "bytes", "bytes_fetched", "requests"] {
        assert_eq!(total(name), summary(name), "{name}");
    }
    assert_eq!(total("seconds"), report["run"]["seconds"].as_f64().unwrap());
    assert_eq!(total("oldest"), report["summary"]["oldest_state"]["age_s"].as_f64().unwrap());

    // The curve and its marks.
    let timeline = report["timeline"].as_array().unwrap();
    for series in ["done", "failed"] {
        let (mut sum, mut expected) = (0, vec![(0.0, 0)]);
        for interval in timeline {
            sum += interval[series].as_u64().unwrap();
            expected.push((interval["seconds"].as_f64().unwrap(), sum));
        }
        let found = curve(&mut browser, series);
        assert_eq!(found.len(), expected.len());
        let precision = report["run"]["seconds"].as_f64().unwrap() / 10_000.0;
        for ((x, y), (seconds, databases)) in found.into_iter().zip(expected) {
            assert!((x - seconds).abs() < precision && y.round() as u64 == databases, "{x} {seconds} {y} {databases}");
        }
    }
    let marks = browser.value("[...document.querySelectorAll('#recovery [data-mark]')].map(dot => [dot.dataset.mark, Number(dot.dataset.seconds)])");
    let at = |name: &str| report["milestones"][format!("{name}_seconds")].clone();
    assert_eq!(marks, json!([["first", at("first")], ["half", at("half")], ["99 %", at("p99")], ["all", at("all")]]));
    let ages = browser.value(
        "[...document.querySelectorAll('[data-age]')].map(text => Number(text.textContent.replaceAll(',', '')))",
    );
    let groups = report["ages"]["groups"].as_array().unwrap();
    assert_eq!(ages, groups.iter().map(|group| group["databases"].clone()).collect::<Value>());

    // The hostile name is text.
    let name = format!("fleet/{HOSTILE}");
    let count = format!(
        "[...document.querySelectorAll('td')].filter(cell => cell.firstChild?.data === {}).length",
        json!(name)
    );
    assert_eq!(browser.value(&count), 1);
    assert_eq!(browser.value("document.images.length + document.scripts.length"), 1);
    assert_eq!(browser.console(), Vec::<&Value>::new());
}

#[test]
fn tables_are_sorted_and_filtered() {
    let Some(mut browser) = Chromium::start() else { return };
    let (_dir, report, page) = run();
    browser.open(&page);
    let press = |title: &str| {
        format!(
            "[...document.querySelectorAll('#others th')].find(head => head.textContent === '{title}').querySelector('button').click()"
        )
    };
    let column = |title: &str| {
        format!(
            "(() => {{ const at = [...document.querySelectorAll('#others th')].findIndex(head => head.textContent === '{title}'); \
             return [...document.querySelectorAll('#others tbody tr')].map(row => row.cells[at].dataset.v ?? row.cells[at].textContent); }})()"
        )
    };
    for (title, is_number) in [("Seconds", true), ("Size", true), ("Fetched", true), ("TXID", false)] {
        browser.value(&press(title));
        let ascending = browser.value(&column(title));
        let texts: Vec<String> = serde_json::from_value(ascending.clone()).unwrap();
        match is_number {
            true => assert!(texts.iter().map(|text| text.parse::<f64>().unwrap()).is_sorted(), "{title}: {texts:?}"),
            false => assert!(texts.is_sorted(), "{title}: {texts:?}"),
        }
        browser.value(&press(title));
        let mut descending: Vec<String> = serde_json::from_value(browser.value(&column(title))).unwrap();
        descending.reverse();
        assert_eq!(texts, descending, "{title}");
    }
    assert_eq!(browser.value("document.querySelectorAll('#others th[aria-sort]').length"), 1);
    // Nothing is lost by sorting.
    let restored = report["summary"]["restored"].as_u64().unwrap();
    assert_eq!(browser.value("document.querySelectorAll('#others tbody tr').length"), restored);

    let filter = |text: &str| {
        format!(
            "(() => {{ const input = document.querySelector('#others input'); input.value = '{text}'; \
             input.dispatchEvent(new Event('input')); \
             return [...document.querySelectorAll('#others tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].textContent); }})()"
        )
    };
    assert_eq!(browser.value(&filter("000007")), json!(["fleet/000007.db"]));
    assert_eq!(browser.value("document.querySelector('#others output').textContent"), format!("1 of {restored}"));
    assert_eq!(browser.value(&filter("")).as_array().unwrap().len() as u64, restored);
    assert_eq!(browser.console(), Vec::<&Value>::new());
}

/// Everything is there without the script, and can be seen.
#[test]
fn a_page_needs_no_script() {
    let Some(mut browser) = Chromium::start() else { return };
    let (_dir, report, page) = run();
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    browser.open(&page);
    let document = browser.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
    let rows = nodes(&mut browser, &document, "#failures tbody tr, #others tbody tr").len();
    assert_eq!(rows, report["databases"].as_array().unwrap().len());
    assert_eq!(nodes(&mut browser, &document, "th button, input").len(), 0);
    for selector in ["h1", "#recovery .curve", "#traffic", "#ages", "#latencies", "#failures td code", "#asked code"] {
        let node = nodes(&mut browser, &document, selector)[0].clone();
        let quad = browser.call("DOM.getBoxModel", json!({"nodeId": node}));
        assert!(quad["model"]["height"].as_u64().unwrap() > 0, "{selector}");
    }
}

/// The nodes that a selector matches, found without a script of the page.
fn nodes(browser: &mut Chromium, document: &Value, selector: &str) -> Vec<Value> {
    let found = browser.call("DOM.querySelectorAll", json!({"nodeId": document, "selector": selector}));
    found["nodeIds"].as_array().unwrap().clone()
}

#[test]
fn a_page_of_ten_thousand_databases() {
    let Some(mut browser) = Chromium::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("r.html");
    let mut book = ReportBook::open(std::slice::from_ref(&page)).unwrap();
    for i in 0..10_000_u64 {
        let row = DatabaseRow {
            name: format!("tenants/{:04}/databases/customer-{i:06}.db", i % 500),
            outcome: "restored",
            txid: Some(format!("{i:016x}")),
            timestamp: Some("2026-09-21T14:13:20Z".to_owned()),
            age_seconds: Some(i * 7 % 5_000),
            bytes: Some(i * 1_000),
            files: Some(7),
            bytes_fetched: Some(i * 300),
            requests: Some(9),
            seconds: Some(0.25),
            standing: RowStanding::Good,
            ..DatabaseRow::default()
        };
        book.add(&row, Duration::from_millis(i));
    }
    let run = RunInfo { command: "restore-pattern", seconds: 10.0, ..RunInfo::default() };
    assert!(book.finish(&RunEnd { run, ..RunEnd::default() }).is_empty());
    assert!(page.metadata().unwrap().len() < 4_000_000);
    browser.open(&page);
    // How long it took is the page's to say. A busy machine has no upper bound.
    let loaded = browser.value("performance.getEntriesByType('navigation')[0].loadEventEnd");
    println!("10,000 databases: {} bytes, loaded after {loaded} ms", page.metadata().unwrap().len());
    assert!(loaded.as_f64().unwrap() > 0.0);
    assert_eq!(browser.value("document.querySelectorAll('#others tbody tr').length"), 10_000);
    browser.value("document.querySelectorAll('#others th button')[3].click()");
    let first = browser.value("document.querySelector('#others tbody tr').cells[3].dataset.v");
    assert_eq!(first, "0");
    assert_eq!(browser.console(), Vec::<&Value>::new());
}
