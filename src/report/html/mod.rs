//! One page for browsers, complete in itself. It asks for nothing from anywhere, and its policy forbids it: the one
//! style and the one script are allowed by their hashes. Without the script it lacks sorting and filtering only.
//!
//! Names and reasons come from buckets. maud escapes every text and attribute; only the style, the script and the
//! policy, which are written here, are put in as they are.

mod figures;
mod scale;
mod shares;
mod tables;

use crate::error::escaped;
use crate::human;
use crate::report::answer::{RunAnswer, seconds, shown_time};
use crate::report::document::{ExtraTable, HostInfo, ReportDocument, RunInfo};
use crate::report::forecast::RestoreForecast;
use crate::report::rows::RowStanding;
use crate::report::timeline::Interval;
use aws_smithy_types::base64;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub(super) fn page(document: &ReportDocument<'_>) -> String {
    let answer = RunAnswer::of(document);
    let run = &document.end.run;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (answer.headline) " – hydrant " (run.command) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(document, &answer))
                    section .figures {
                        @if document.milestones.is_some() && !document.end.timeline.is_empty() { (figures::recovery(document)) }
                        @if let Some(figure) = figures::traffic(document) { (figure) }
                        @if let Some(figure) = shares::ages(document) { (figure) }
                        @if let Some(figure) = shares::latencies(document) { (figure) }
                    }
                    @if let Some(forecast) = &document.end.forecast { (forecast_section(forecast)) }
                    @for extra in &document.end.extras { (extra_section(extra)) }
                    @if let Some(section) = tables::failures(document) { (section) }
                    @if let Some(section) = tables::noted(document) { (section) }
                    (asked(run))
                    @if let Some(section) = tables::others(document) { (section) }
                    footer { "Hydrant " (run.version) ", " (shown_time(&run.ended)) ". This page asks for nothing from anywhere." }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The page's policy: nothing but the one style and the one script.
fn policy() -> String {
    let hash = |text: &str| base64::encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

const fn class(standing: RowStanding) -> &'static str {
    match standing {
        RowStanding::Bad => "bad",
        RowStanding::Degraded => "warn",
        RowStanding::Skipped | RowStanding::Good => "good",
    }
}

/// The answer, and the numbers behind it.
fn head(document: &ReportDocument<'_>, answer: &RunAnswer) -> Markup {
    let run = &document.end.run;
    html! {
        header {
            p .over { "hydrant " (run.command) " on " (escaped(&run.host.name)) ", " (shown_time(&run.started)) }
            h1 #answer { (answer.headline) }
            p { span class={ "badge " (class(answer.standing)) } { (answer.badge) } }
            @for sentence in &answer.sentences { p .lead { (escaped(sentence)) } }
            (tiles(document))
        }
    }
}

fn tiles(document: &ReportDocument<'_>) -> Markup {
    let (tally, end) = (document.tally, document.end);
    let sum = |of: fn(&Interval) -> u64| end.timeline.iter().map(of).sum::<u64>();
    let (requests, throttled) = (sum(|i| i.requests), sum(|i| i.throttled));
    html! {
        dl .tiles {
            (tile("databases", "databases", tally.databases() + end.not_reached, ""))
            @for (word, count) in tally.by_word() {
                @let class = match word {
                    "failed" | "stale" | "not restorable" => "bad",
                    "degraded" => "warn",
                    _ => "",
                };
                (tile(word, word, count, class))
            }
            @if end.not_reached > 0 { (tile("not_reached", "not reached", end.not_reached, "bad")) }
            div { dt { "time" } dd data-total="seconds" data-value=(end.run.seconds) { (seconds(end.run.seconds)) } }
            @if let Some(q) = document.ages.quantiles {
                div {
                    dt { "oldest state" }
                    dd data-total="oldest" data-value=(q.max) { (human::age(q.max)) }
                    small .dim { (human::thousands(document.ages.older_than_a_day)) " older than a day" }
                }
            }
            @if tally.bytes > 0 {
                div { dt { "databases' size" } dd data-total="bytes" data-value=(tally.bytes) { (human::bytes(tally.bytes)) } }
            }
            @if tally.bytes_fetched > 0 {
                div {
                    dt { "backup files" }
                    dd data-total="bytes_fetched" data-value=(tally.bytes_fetched) { (human::bytes(tally.bytes_fetched)) }
                    small .dim { (human::count(tally.files, "file")) }
                }
            }
            @if requests > 0 {
                div {
                    dt { "requests" }
                    dd data-total="requests" data-value=(requests) { (human::thousands(requests)) }
                    small .dim {
                        (human::thousands(end.requests_repeated)) " repeated, " (human::thousands(throttled)) " throttled"
                    }
                }
            }
        }
    }
}

fn tile(key: &str, title: &str, count: u64, class: &str) -> Markup {
    html! { div { dt { (title) } dd class=[Some(class).filter(|class| !class.is_empty())] data-total=(key) data-value=(count) { (human::thousands(count)) } } }
}

/// What was asked.
fn asked(run: &RunInfo) -> Markup {
    let HostInfo { name, cores, memory_bytes } = &run.host;
    html! {
        section #asked {
            h2 { "What was asked" }
            dl .asked {
                dt { "Command" } dd { code { (escaped(&run.command_line)) } }
                dt { "Databases" } dd { (escaped(&run.source)) }
                dt { "Host" } dd {
                    (escaped(name)) ", " (human::count(*cores, "core")) ", memory budget " (human::bytes(*memory_bytes))
                }
                dt { "Time" } dd { (shown_time(&run.started)) " to " (shown_time(&run.ended)) ", " (seconds(run.seconds)) }
                @if let Some(signal) = &run.interrupted_by { dt { "Interrupted by" } dd { (signal) } }
                @if let Some(again) = &run.again { dt { "Failures again" } dd { code { (escaped(again)) } } }
                dt { "Version" } dd { "Hydrant " (run.version) }
            }
        }
    }
}

fn forecast_section(forecast: &RestoreForecast) -> Markup {
    html! {
        section #forecast {
            h2 { "What a restore of everything would take" }
            p {
                "On this host, half of the databases would be restored after " (seconds(forecast.half_seconds))
                " and all after " (seconds(forecast.all_seconds)) ". It would be held back by " (forecast.limited_by) "."
            }
            p {
                "They take " (human::bytes(forecast.bytes_needed)) " of disk"
                @if let Some(free) = forecast.bytes_free { ", of " (human::bytes(free)) " free" }
                "."
                @match forecast.disk_bytes_per_second {
                    Some(speed) => { " The disk writes " (human::speed(speed)) "." }
                    None => { " The disk was not measured." }
                }
            }
            @if !forecast.hosts.is_empty() {
                div .scroll {
                    table .narrow {
                        thead { tr { th scope="col" { "Hosts, one shard each" } th .n scope="col" { "All after" } } }
                        tbody {
                            @for hosts in &forecast.hosts {
                                tr { th scope="row" { (hosts.hosts) } td .n { (seconds(hosts.all_seconds)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn extra_section(extra: &ExtraTable) -> Markup {
    html! {
        section {
            h2 { (extra.title) }
            div .scroll {
                table {
                    thead { tr { @for (index, title) in extra.header.iter().enumerate() { th scope="col" class=[(index > 0).then_some("n")] { (title) } } } }
                    tbody {
                        @for row in &extra.rows {
                            tr { @for (index, text) in row.iter().enumerate() { td class=[(index > 0).then_some("n")] { (escaped(text)) } } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_cannot_end_their_elements() {
        assert!(!STYLE.contains('<') && !STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--") && !SCRIPT.contains("innerHTML"));
    }

    #[test]
    fn the_policy_names_the_hashes_of_what_is_there() {
        // Computed with: openssl dgst -sha256 -binary | base64
        assert_eq!(base64::encode(Sha256::digest("alert(1)")), "bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI=");
        assert!(policy().starts_with("default-src 'none'; style-src 'sha256-"));
    }
}
